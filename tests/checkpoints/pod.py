"""A pod for the fault tests: it holds the name `ledger`, applies what is in its inbox, and obeys a trigger.

Usage: pod.py DATABASE LEASE [POINT:SEQ:ACTION ...]. When the entry SEQ is at POINT, the pod kills (`kill`) or stops
(`stop`) itself, as a machine or a scheduler would do it. It tells what it does on stdout, one line each, and ends with
SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys

import trio
from attrs import frozen

from checkpoints import Checkpoint, Checkpoints, Entry, Inbox, InboxReader, NameLeases
from otp.engines import Lease, LeaseLost, SqliteEngine, Topic


@frozen
class Coin:
    value: int


COIN = Topic("coin", Coin)
EFFECTS = "CREATE TABLE effect (place INTEGER PRIMARY KEY, value INTEGER, epoch INTEGER, attempt INTEGER)"


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201  the test listens


class Pod:
    def __init__(self, triggers: list[str]) -> None:
        self.triggers = [tuple(trigger.split(":")) for trigger in triggers]

    def at(self, point: str, seq: int) -> None:
        for where, when, action in self.triggers:
            if (where, int(when)) == (point, seq):
                say(action, point, seq)
                os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)

    async def run(self, path: str, lease_time: float) -> None:
        async with SqliteEngine(path, lease=lease_time) as engine, trio.open_nursery() as nursery:
            nursery.start_soon(self.obey, nursery.cancel_scope)
            names = NameLeases(engine)
            while (lease := await names.acquire("ledger")) is None:
                say("standby")
                await names.wait("ledger")
            say("acquired", lease.token.epoch)
            try:
                await self.work(engine, lease)
            except LeaseLost:
                say("stopped")
            finally:
                say("released", await names.release(lease))
            nursery.cancel_scope.cancel()

    async def work(self, engine: SqliteEngine, lease: Lease) -> None:
        inbox = Inbox(engine, "ledger", [COIN])
        checkpoint = await Checkpoints(engine).open("ledger", lease)
        say("resumed", checkpoint.load("total", int, default=0))
        reader = await inbox.open(lease)
        while True:
            entry = await reader.next()
            if entry is None:
                await reader.wait()
                continue
            self.at("taken", entry.seq)
            say("handling", entry.seq, entry.attempt)
            self.at("handled", entry.seq)
            try:
                await self.apply(entry, checkpoint, lease)
            except LeaseLost:
                await self.be_a_zombie(entry, reader, checkpoint)
                raise
            self.at("committed", entry.seq)
            say("applied", entry.seq)

    async def apply(self, entry: Entry[Coin], checkpoint: Checkpoint, lease: Lease) -> None:
        total = checkpoint.load("total", int, default=0) + entry.payload.value
        async with entry.commit() as tx:
            await tx.execute(
                "INSERT INTO effect (value, epoch, attempt) VALUES (?, ?, ?)",
                entry.payload.value,
                lease.token.epoch,
                entry.attempt,
            )
            await checkpoint.save("total", total, tx=tx)
            self.at("inside", entry.seq)

    async def be_a_zombie(self, entry: Entry[Coin], reader: InboxReader[Coin], checkpoint: Checkpoint) -> None:
        """Try everything else, too: all of it must be refused."""
        say("lost commit")
        for what, act in (
            ("mark", reader.mark(entry)),
            ("save", checkpoint.save("total", -1)),
            ("next", reader.next()),
        ):
            try:
                await act
                say("written", what)
            except LeaseLost:
                say("lost", what)

    async def obey(self, scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()


if __name__ == "__main__":
    trio.run(Pod(sys.argv[3:]).run, sys.argv[1], float(sys.argv[2]))
