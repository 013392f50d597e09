"""Inboxes in memory.

Numbers have no gaps and entries leave at the head only, so the head's number is `next_seq - depth`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from otp.engines import DeadLetter, Engine, Failure, LeaseLost, MemoryTable, MemoryTables, Token, Transaction

from .._errors import EntryGone, InboxFull, NotHead
from .._rows import Counts, InboxStatistics, NewEntry, Posted, StoredEntry, with_failure
from ._rules import Expiring, lease_name, may_open

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRUNED_BY_A_POST = 2


@frozen
class _Head:
    lease: str | None = None
    owner: str | None = None
    epoch: int = 0
    next_seq: int = 1
    depth: int = 0

    @property
    def first(self) -> int:
        return self.next_seq - self.depth


@frozen
class _Row:
    entry: StoredEntry
    attempt_epoch: int = 0
    unknown_since: float | None = None


@frozen
class _Seen:
    seq: int
    expires_at: float = inf


@frozen
class _Dead:
    letter: DeadLetter
    entry: NewEntry


def _heads(c: MemoryTables) -> MemoryTable[str, _Head]:
    return c.table("hf_inbox_head")


def _entries(c: MemoryTables) -> MemoryTable[tuple[str, int], _Row]:
    return c.table("hf_inbox")


def _seen(c: MemoryTables) -> MemoryTable[tuple[str, str], _Seen]:
    return c.table("hf_inbox_dedup")


def _dead(c: MemoryTables) -> MemoryTable[tuple[str, str], _Dead]:
    return c.table("hf_inbox_dead")


def _expiring(c: MemoryTables, name: str) -> Expiring[str]:
    return Expiring(c, "hf_inbox_dedup_expiry", name)


def _mine(c: MemoryTables, name: str, token: Token) -> _Head:
    head = _heads(c).get(name, _Head())
    if (head.owner, head.epoch) != (token.owner, token.epoch):
        raise LeaseLost(token)
    return head


def _at_head(c: MemoryTables, name: str, token: Token, seq: int) -> _Row:
    head = _mine(c, name, token)
    if (name, seq) not in _entries(c):
        raise EntryGone(name, seq)
    if seq != head.first:
        raise NotHead(name, seq, head.first)
    return _entries(c)[name, seq]


def _take(c: MemoryTables, name: str, token: Token, seq: int) -> StoredEntry:
    entry = _at_head(c, name, token, seq).entry
    head = _heads(c)[name]
    _heads(c)[name] = evolve(head, depth=head.depth - 1)
    del _entries(c)[name, seq]
    return entry


def _append(c: MemoryTables, name: str, entry: NewEntry, max_depth: int, now: float) -> int:
    head = _heads(c).get(name, _Head())
    if head.depth >= max_depth:
        raise InboxFull(name, head.depth, max_depth)
    seq = head.next_seq
    _heads(c)[name] = evolve(head, next_seq=seq + 1, depth=head.depth + 1)
    stored = StoredEntry(
        name, seq, entry.id, entry.deduplicated, entry.sender, entry.envelope, now, history=entry.history
    )
    _entries(c)[name, seq] = _Row(stored)
    if entry.deduplicated:
        _seen(c)[name, entry.id] = _Seen(seq)
        for id_ in _expiring(c, name).take(now, _PRUNED_BY_A_POST):
            if _seen(c).get((name, id_), _Seen(0)).expires_at <= now:  # not taken into use again since
                del _seen(c)[name, id_]
    return seq


def give_back_attempt(c: MemoryTables, token: Token) -> None:
    """Who gives the lease of an inbox's own name back in the middle of an entry was interrupted: it counts for nothing.

    What failed was noted as a failure before, and is not touched.
    """
    head = _heads(c).get(token.key)
    if head is None or (head.lease, head.owner, head.epoch) != (lease_name(token), token.owner, token.epoch):
        return
    row = _entries(c).get((token.key, head.first))
    if row is not None and row.attempt_epoch == token.epoch:
        entry = evolve(row.entry, attempts=row.entry.attempts - 1, releases=row.entry.releases + 1)
        _entries(c)[token.key, head.first] = evolve(row, entry=entry, attempt_epoch=0)


def _forget_later(c: MemoryTables, name: str, id_: str, at: float) -> None:
    seen = _seen(c).get((name, id_))
    if seen is not None:
        _seen(c)[name, id_] = evolve(seen, expires_at=at)
        _expiring(c, name).put(at, id_)


class MemoryInboxes:
    """See `InboxBackend`."""

    def __init__(self, engine: Engine[MemoryTables]) -> None:
        self._engine = engine

    async def post(self, name: str, entry: NewEntry, max_depth: int, tx: Transaction | None) -> Posted:
        def fn(c: MemoryTables) -> Posted:
            now = self._engine.now(c)
            first = _seen(c).get((name, entry.id)) if entry.deduplicated else None
            if first is not None and first.expires_at > now:
                return Posted(first.seq, entry.id, duplicate=True)
            return Posted(_append(c, name, entry, max_depth, now), entry.id, duplicate=False)

        return await self._engine.write(fn, tx=tx)

    async def open(self, name: str, token: Token) -> None:
        def fn(c: MemoryTables) -> None:
            head = _heads(c).get(name, _Head())
            if not may_open(head.lease, head.owner, head.epoch, token, f"inbox {name!r}"):
                raise LeaseLost(token)
            _heads(c)[name] = evolve(head, lease=lease_name(token), owner=token.owner, epoch=token.epoch)

        await self._engine.write(fn)

    async def read(self, name: str, token: Token, limit: int) -> Sequence[StoredEntry]:
        def fn(c: MemoryTables) -> list[StoredEntry]:
            head = _mine(c, name, token)
            end = min(head.next_seq, head.first + limit)
            return [_entries(c)[name, seq].entry for seq in range(head.first, end)]

        return await self._engine.read(fn)

    async def begin(self, name: str, token: Token, seq: int) -> Counts:
        def fn(c: MemoryTables) -> Counts:
            row = _at_head(c, name, token, seq)
            entry = row.entry
            if row.attempt_epoch != token.epoch:
                entry = evolve(entry, attempts=entry.attempts + 1)
                _entries(c)[name, seq] = evolve(row, entry=entry, attempt_epoch=token.epoch)
            return Counts(entry.attempts, entry.releases, entry.error)

        return await self._engine.write(fn)

    async def note_unknown(self, name: str, token: Token, seq: int) -> float:
        def fn(c: MemoryTables) -> float:
            now = self._engine.now(c)
            row = _at_head(c, name, token, seq)
            if row.unknown_since is None:
                row = _entries(c)[name, seq] = evolve(row, unknown_since=now)
            return now - (row.unknown_since or 0.0)

        return await self._engine.write(fn)

    async def finish(self, name: str, token: Token, seq: int, dedup_window: float, tx: Transaction | None) -> None:
        def fn(c: MemoryTables) -> None:
            entry = _take(c, name, token, seq)
            if entry.deduplicated:
                _forget_later(c, name, entry.id, self._engine.now(c) + dedup_window)

        await self._engine.write(fn, tx=tx)

    async def end_attempt(self, name: str, token: Token, seq: int, error: str, *, counted: bool) -> int:
        def fn(c: MemoryTables) -> int:
            row = _at_head(c, name, token, seq)
            entry = row.entry
            if counted:
                failure = Failure(attempt=entry.attempts, at=self._engine.now(c), owner=token.owner, error=error)
                entry = evolve(entry, error=error, history=with_failure(entry.history, failure))
            elif row.attempt_epoch == token.epoch:  # an attempt is given back only if one is open
                entry = evolve(entry, attempts=entry.attempts - 1, releases=entry.releases + 1)
            _entries(c)[name, seq] = evolve(row, entry=entry, attempt_epoch=0)
            return entry.attempts

        return await self._engine.write(fn)

    async def bury(self, name: str, token: Token, seq: int, reason: str, error: str, tx: Transaction | None) -> None:
        def fn(c: MemoryTables) -> None:
            entry = _take(c, name, token, seq)
            letter = DeadLetter(
                id=entry.id,
                kind="inbox",
                source=name,
                envelope=entry.envelope,
                attempts=entry.attempts,
                releases=entry.releases,
                reason=reason,
                error=error or entry.error,
                first_at=entry.posted_at,
                last_at=self._engine.now(c),
                owner=token.owner,
                epoch=token.epoch,
                history=entry.history,
            )
            again = NewEntry(entry.id, entry.deduplicated, entry.sender, entry.envelope, entry.history)
            _dead(c)[name, entry.id] = _Dead(letter, again)

        await self._engine.write(fn, tx=tx)

    async def wait(self, name: str, token: Token) -> None:
        def probe(c: MemoryTables, _now: float) -> float:
            head = _heads(c).get(name, _Head())
            return inf if (head.owner, head.epoch, head.depth) == (token.owner, token.epoch, 0) else 0.0

        await self._engine.watch(probe)

    async def statistics(self, name: str, max_depth: int) -> InboxStatistics:
        def fn(c: MemoryTables) -> InboxStatistics:
            head = _heads(c).get(name, _Head())
            first = _entries(c).get((name, head.first))
            return InboxStatistics(
                name=name,
                depth=head.depth,
                max_depth=max_depth,
                posted=head.next_seq - 1,
                dead=sum(inbox == name for inbox, _ in _dead(c)),
                head=None if first is None else head.first,
                oldest_age=0.0 if first is None else self._engine.now(c) - first.entry.posted_at,
                owner=head.owner,
                epoch=head.epoch,
            )

        return await self._engine.read(fn)

    async def dead_list(self, name: str, limit: int, after: tuple[float, str] | None) -> Sequence[DeadLetter]:
        def fn(c: MemoryTables) -> list[DeadLetter]:
            letters = [dead.letter for (inbox, _), dead in _dead(c).items() if inbox == name]
            letters.sort(key=lambda letter: (letter.last_at, letter.id))
            return [letter for letter in letters if after is None or (letter.last_at, letter.id) > after][:limit]

        return await self._engine.read(fn)

    async def dead_show(self, name: str, id_: str) -> DeadLetter | None:
        def fn(c: MemoryTables) -> DeadLetter | None:
            found = _dead(c).get((name, id_))
            return None if found is None else found.letter

        return await self._engine.read(fn)

    async def dead_requeue(self, name: str, id_: str, max_depth: int, tx: Transaction | None) -> int | None:
        def fn(c: MemoryTables) -> int | None:
            found = _dead(c).pop((name, id_), None)
            return None if found is None else _append(c, name, found.entry, max_depth, self._engine.now(c))

        return await self._engine.write(fn, tx=tx)

    async def dead_drop(self, name: str, id_: str, dedup_window: float, tx: Transaction | None) -> bool:
        def fn(c: MemoryTables) -> bool:
            if _dead(c).pop((name, id_), None) is None:
                return False
            _forget_later(c, name, id_, self._engine.now(c) + dedup_window)
            return True

        return await self._engine.write(fn, tx=tx)
