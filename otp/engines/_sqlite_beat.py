"""The heartbeat of the SQLite engine: a thread and a connection of its own, so that no long write delays it.

It goes on while the service drains. It stops renewing once the loop has not answered for `stall_limit`. When the
process is made to exit although something would not stop, it gives back what is held: the loop may be what is stuck.
"""

# apsw's stubs speak of ctypes without importing it.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

import apsw
import trio

from ._errors import StoreError
from ._guard import Due
from ._heartbeat import Heartbeat
from ._sqlite_file import LINK_BROKEN, Link, Turn, store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._port import Port
    from ._token import Token

T = TypeVar("T")
log = logging.getLogger("otp.engines")

_GIVE_BACK_TIME: Final = 0.5
"""Seconds that a forced exit waits for the last act. Half of what it has for all engines of the process."""


class ThreadHeartbeat(Heartbeat):
    """Drives the keeper from a thread; results come back to the loop through the port."""

    def __init__(
        self,
        port: Port,
        link: Link,
        path: str,
        *,
        turn: Turn,
        extend: Callable[[apsw.Connection, Sequence[Token]], set[Token]],
        give_back: Callable[[apsw.Connection, Sequence[Token]], None],
        refuse_writes: Callable[[], None],
        stamp: Callable[[apsw.Connection], None],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.due = Due()
        self._port = port
        self._link = link
        self._path = path
        self._turn = turn
        self._extend = extend
        self._give_back = give_back
        self._refuse_writes = refuse_writes
        self._stamp = stamp
        self._changes = threading.Condition()
        self._closing = False
        self._last_act = False  # give back what is held, then end
        self._planned = inf
        self._told_stall = False
        # Often enough to notice a stall well before its limit, and to make out short ones as such.
        self._pulse_every = min(self._keeper.interval, self._keeper.stall_limit / 4)
        self.ended = trio.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"holdfast-heartbeat {path}", daemon=True)

    # -- the loop's side ---------------------------------------------------------------------------

    def start(self) -> None:
        super().start()
        self._thread.start()

    async def stop(self) -> None:
        await super().stop()
        with self._changes:
            self._closing = True
            self._changes.notify()

    def join(self) -> None:
        self._thread.join()

    def _wake(self, due: float) -> None:
        with self._changes:
            if due < self._planned:
                self._planned = due
                self._changes.notify()

    def _pulse(self) -> None:
        """Asked for by the thread, run by the loop: that it runs is the message."""
        now = self._clock()
        with self._lock:
            stalled = self._keeper.stalled(now)
            self._keeper.pulse(now)
            over = self._keeper.next_expiry() <= now
        if over:  # the machine has slept, which the clock counts and the watchdog's timer does not
            self._changed.set()
        if stalled:
            log.warning("the loop runs again: leases are renewed again")
            self._wake(now)

    # -- any thread's ------------------------------------------------------------------------------

    def give_all_back(self) -> None:
        with self._changes:
            self._closing = self._last_act = True
            self._changes.notify()
        if not self._over.wait(timeout=_GIVE_BACK_TIME):
            log.warning("leases could not be given back within %g s: they run out", _GIVE_BACK_TIME)

    # -- the thread's side -------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._beat_until_closing()
            if self._last_act:
                self._give_all_back()
        finally:
            self.due.at = inf
            self._link.close()
            self._over.set()
            self._port.post(self.ended.set)

    def _beat_until_closing(self) -> None:
        while self._sleep():
            self._port.post(self._pulse, idempotent=True)
            self._tell_stall()
            beat = self._begin()
            if beat is None:
                continue
            try:
                still = self._renew(beat.tokens)
            except (StoreError, apsw.Error) as error:
                self._failed(beat, error)
            except Exception as error:
                log.exception("heartbeat: the extension function failed")
                self._failed(beat, error)
            else:
                lost = self._answer(beat, still)
                if lost:
                    self._port.post(self._report, lost)

    def _give_all_back(self) -> None:
        with self._lock:
            held = self._keeper.tokens()
            dead = self._keeper.stalled(self._clock())
        try:
            self._refuse_writes()  # what is claimed after this would be seen by nobody
            self._transact(lambda connection: self._give_back(connection, held if dead else ()))
        except (StoreError, apsw.Error) as error:
            log.warning("leases could not be given back, so they run out: %s", error)
        except Exception:
            log.exception("leases could not be given back, so they run out")
        else:
            log.warning("all leases given back: %d were held", len(held))
        for token in held:  # should the process go on all the same
            self._port.post(self.lost, token, "given back, since the process is about to exit")

    def _sleep(self) -> bool:
        """Until something is due or the loop is to be asked for its pulse. False when closing."""
        with self._changes:
            while not self._closing:
                now = self._clock()
                with self._lock:
                    held = len(self._keeper)
                    beat = self._keeper.next_beat()
                    idle = self._keeper.stalled(now)
                if not held:
                    self._planned = self.due.at = inf
                    self._changes.wait()
                    continue
                pulse = now + self._pulse_every
                self._planned = pulse if idle else max(min(beat, pulse), now)
                pause = self._planned - now
                self.due.at = time.monotonic() + pause
                if pause <= 0 or not self._changes.wait(pause):
                    return True
                # Notified: an earlier time was announced, or we are closing. Look again.
                if self._planned <= self._clock():
                    return True
        return False

    def _tell_stall(self) -> None:
        with self._lock:
            stalled = self._keeper.stalled(self._clock())
        if stalled and not self._told_stall:
            log.error(
                "the loop has not run for %.1f s: %d leases are not renewed until it runs again",
                self._keeper.stall_limit,
                len(self._leases),
            )
        self._told_stall = stalled

    def _renew(self, tokens: Sequence[Token]) -> set[Token]:
        return self._transact(lambda connection: self._extend(connection, tokens))

    def _transact(self, fn: Callable[[apsw.Connection], T]) -> T:
        connection = self._link.get()
        try:
            self._link.verify(every=0.0)
            with self._turn:
                result = self._commit(connection, fn)
        except (StoreError, apsw.Error) as error:
            told = error if isinstance(error, StoreError) else store_error(error, self._path)
            if told is not None and isinstance(error, (StoreError, *LINK_BROKEN)):
                self._link.broke(told)
            raise told or error from error
        self._link.worked()
        return result

    def _commit(self, connection: apsw.Connection, fn: Callable[[apsw.Connection], T]) -> T:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = fn(connection)
            self._stamp(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result
