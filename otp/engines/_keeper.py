"""Which leases to renew when, and which are gone: the rules alone, without thread, task, clock or store.

One keeper per engine and run. Every call gets `now` on the holder's clock. The rules:

- a lease is renewed every `lease / 3`, counted from the moment *before* the last successful request was sent;
- it is given up at `sent + lease - margin`, strictly before the store could let somebody else in;
- no renewal while the loop has not shown a pulse for `stall_limit`: a process whose loop hangs must lose
  its work to others, however lively its heartbeat thread is;
- a failed renewal (outage) is repeated soon, until the lease is given up by the rule above;
- each loss is reported once; what was let go is never reported, also not by an answer still under way.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from attrs import define, frozen

from ._token import Token

if TYPE_CHECKING:
    from collections.abc import Collection


@define(eq=False)
class _Held:
    """One holding. Compared by identity: the same key held again is another holding."""

    token: Token
    sent: float
    due: float
    settling: int = 0
    turns: int = 0  # how often settling has begun or ended


@frozen(eq=False)
class Beat:
    """One renewal under way."""

    sent: float
    entries: tuple[tuple[_Held, int], ...]

    @property
    def tokens(self) -> tuple[Token, ...]:
        return tuple(held.token for held, _ in self.entries)


class LeaseKeeper:
    """The state of all leases one engine holds. Not thread-safe: the driver locks."""

    def __init__(self, *, lease: float, margin: float, stall_limit: float) -> None:
        self.lease = lease
        self.margin = margin
        self.stall_limit = stall_limit
        self.interval = lease / 3
        self.retry = self.interval / 5
        self._held: dict[Token, _Held] = {}
        self._pulse = -inf
        self._flight: Beat | None = None

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, token: Token) -> bool:
        return token in self._held

    def tokens(self) -> tuple[Token, ...]:
        return tuple(self._held)

    def hold(self, token: Token, *, sent: float, now: float) -> None:
        """Renew `token` from now on; `sent` is when the request that got it was sent."""
        if token in self._held:
            raise ValueError(f"{token} is held already")
        self._held[token] = _Held(token, sent, sent + self.interval)
        self.pulse(now)

    def let_go(self, token: Token) -> bool:
        """Forget it, without a report. False if it was not held (lost before, or let go already)."""
        return self._held.pop(token, None) is not None

    def settle(self, token: Token) -> None:
        """A finish of `token` is under way: "not held" from the store may just mean that it worked."""
        if (held := self._held.get(token)) is not None:
            held.settling += 1
            held.turns += 1

    def unsettle(self, token: Token, *, now: float) -> None:
        """The finish did not happen; ask the store again at once where we stand."""
        if (held := self._held.get(token)) is not None:
            held.settling -= 1
            held.turns += 1
            held.due = min(held.due, now)

    def pulse(self, now: float) -> None:
        """The loop lives: to be called from the loop."""
        self._pulse = max(self._pulse, now)

    def stalled(self, now: float) -> bool:
        return now - self._pulse > self.stall_limit

    def next_beat(self) -> float:
        """When `begin` will have something to renew; inf when nothing is held or a beat is under way."""
        if self._flight is not None or not self._held:
            return inf
        return min(held.due for held in self._held.values())

    def begin(self, now: float) -> Beat | None:
        """The renewal to send now, or None: nothing due, one under way, or the loop has stalled."""
        if self._flight is not None or self.stalled(now) or self.next_beat() > now:
            return None
        # What is due soon goes along: one statement for all, instead of one per lease.
        horizon = now + self.interval / 2
        # What is past its deadline is not asked for: the holder has stopped or is stopping by then.
        entries = tuple(
            (held, held.turns) for held in self._held.values() if held.due <= horizon and now < self._limit(held)
        )
        if not entries:
            return None
        self._flight = Beat(now, entries)
        return self._flight

    def renewed(self, beat: Beat, still: Collection[Token], *, now: float) -> list[Token]:
        """The store answered: `still` are held. Gives back the tokens that are lost."""
        self._flight = None
        lost: list[Token] = []
        for held, turns in beat.entries:
            if self._held.get(held.token) is not held:
                continue  # let go, or given up, while the beat was under way
            if held.token in still:
                held.sent = max(held.sent, beat.sent)
                held.due = held.sent + self.interval
            elif held.settling or held.turns != turns:
                held.due = now + self.retry  # our own finish may be what the store saw
            else:
                del self._held[held.token]
                lost.append(held.token)
        return lost

    def failed(self, beat: Beat, *, now: float) -> None:
        """The store did not answer; nothing is known to be lost, try again soon."""
        self._flight = None
        for held, _ in beat.entries:
            held.due = now + self.retry

    def next_expiry(self) -> float:
        """The next moment at which `expired` may have something; inf when nothing is held."""
        return min((self._limit(held) for held in self._held.values()), default=inf)

    def expired(self, now: float) -> list[Token]:
        """What has to be given up now, because it could run out before another renewal succeeds."""
        over = [token for token, held in self._held.items() if self._limit(held) <= now]
        for token in over:
            del self._held[token]
        return over

    def deadline(self, token: Token) -> float | None:
        """When the store lets somebody else in at the earliest; None when not held."""
        held = self._held.get(token)
        return None if held is None else held.sent + self.lease

    def _limit(self, held: _Held) -> float:
        return held.sent + self.lease - self.margin
