"""A process of its own for the tests: `python -m tests.engines.pod TASK PATH [ARGUMENT ...]`.

Says what it does in lines on stdout, written at once and unbuffered, since it may be killed at any moment.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from otp.engines import LeaseLost, Migration
from otp.engines._port import Port
from tests.engines.support import claim, note, remove, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp.engines import SqliteEngine

SENT = Migration(number=1, statements="CREATE TABLE sent (id TEXT)")


def say(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def record(name: str) -> Callable[[Any], None]:
    def fn(c: Any) -> None:
        c.execute("INSERT INTO sent VALUES (?)", (name,))

    return fn


async def send(engine: SqliteEngine, prefix: str, tasks: int) -> None:
    """Write for ever from several tasks; `sent` before each, `acked` after it."""

    async def sender(number: int) -> None:
        count = 0
        while True:
            count += 1
            name = f"{prefix}-{number}-{count}"
            say("sent", name)
            await engine.write(record(name))
            say("acked", name)

    async with trio.open_nursery() as nursery:
        for number in range(tasks):
            nursery.start_soon(sender, number)


def kill_at(engine: SqliteEngine, point: str, after: int) -> None:
    """Arrange for the death of this process at the `after`-th time it comes to `point`."""
    left = after

    def count() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            die()

    if point == "before-commit":
        inner = engine._stamp

        def stamp(connection: Any) -> None:
            inner(connection)
            count()

        engine._stamp = stamp  # type: ignore[method-assign]
    elif point == "after-commit":
        deliver = Port.deliver

        def hand_over(self: Port, calls: Any) -> None:
            count()
            deliver(self, calls)

        Port.deliver = hand_over  # type: ignore[method-assign]
    elif point != "none":
        raise ValueError(point)


async def main(*words: str) -> None:
    task, path, *arguments = words
    engine = sqlite(Path(path), lease=float(os.environ.get("LEASE", "15")))
    engine.schema("sent", [SENT])
    if task == "send":
        kill_at(engine, arguments[2], int(arguments[3]))
    async with engine:
        if task == "send":
            say("open")
            await send(engine, arguments[0], int(arguments[1]))
        elif task == "hammer":
            say("open")
            while True:
                await engine.write(record("x"))
        elif task == "start":
            for number in range(20):
                await engine.write(note(f"{arguments[0]}-{number}"))
        elif task == "take":
            while leases := await claim(engine, 3):
                say(*(lease.token.key for lease in leases))
        elif task == "hold":
            (lease,) = await claim(engine)
            say("holds", lease.token.epoch)
            try:
                with lease.guard():
                    await trio.sleep_forever()
            except LeaseLost:
                say("lost")
            try:
                await engine.finish(lease, remove(lease))
            except LeaseLost:
                say("refused")
        else:
            raise ValueError(task)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
