"""What lifecycle events cost when nobody subscribed to any.

An actor crashes and is restarted, again and again, in a tree without subscribers: the life that has most to tell.
Counted is how often that asks whether an event is wanted, and timed alone is a function that asks and hears no. Their
product is the cost, given as a part of the whole. (The difference of runs with and without it is smaller than the
difference of two runs.) Left out: the record of the last decisions, which a supervisor keeps for its statistics.
"""

from typing import Final
from unittest import mock

import trio

from otp import Actor, ChildStarted, EventBus, Runtime, Supervisor, child, open_supervisor

from .measure import interleave, now
from .table import Row

LIVES: Final = 2_000
CALLS: Final = 200_000


def crashes() -> float:
    """Seconds from one incarnation of a crashing actor to the next."""
    lives = 0
    done = trio.Event()

    class Crashes(Actor):
        async def init(self) -> None:
            nonlocal lives
            lives += 1
            if lives < LIVES:
                self.send_self("crash")
            else:
                done.set()

        async def handle_message(self, message: object) -> None:
            raise RuntimeError

    async def main() -> float:
        begun = now()
        async with open_supervisor(Supervisor([child(Crashes)], intensity=LIVES), log=False):
            await done.wait()
            return (now() - begun) / LIVES

    return trio.run(main)


def asked_per_life() -> float:
    """How often a life asks whether an event is wanted."""
    asked = 0

    def wants(_: EventBus, _kind: type) -> bool:
        nonlocal asked
        asked += 1
        return False

    with mock.patch.object(EventBus, "wants", wants):
        crashes()
    return asked / LIVES


def tell(runtime: Runtime) -> None:
    """What every place does that may have an event to tell."""
    bus = runtime.events
    if bus.wants(ChildStarted):
        raise AssertionError


def telling() -> float:
    """Seconds for finding out that nobody wants an event."""
    runtime = Runtime()
    begun = now()
    for _ in range(CALLS):
        tell(runtime)
    return (now() - begun) / CALLS


def measure() -> list[Row]:
    """The row of this module."""
    asked = asked_per_life()
    seen = interleave({"life": crashes, "telling": telling}, rounds=5)
    life, each = min(seen["life"]), min(seen["telling"])
    return [
        Row(
            what="lifecycle events without subscriber / a crash and its restart",
            ours=f"{asked:.1f} x {1e9 * each:.0f} ns",
            other=f"{1e6 * life:.1f} us",
            value=100 * asked * each / life,
            unit="%",
            must=3,
            aim=1,
            most=True,
        )
    ]
