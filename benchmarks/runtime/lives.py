"""The lives of many supervised idle actors: how fast they start and end, what they weigh, how one of them restarts.

Spawn: how many actors a supervisor starts per second, one after the other, as OTP has it: `init` of the first is done
before the second begins. Beside it, a nursery starts as many no-ops by `start_soon` and waits for them, all at once.
The specs are made before. With `start_instance` each is asked for, and waited for, by another task.

The crowd is 100 000 actors in a process of its own, with the log on, as it is by default. Memory is what the process
grows by, specs included, divided by their number; nobody has sent them anything yet, so no mailbox is in it. Ordered
stop: from the end of the block until all have run their `terminate`, one after the other, the last first; beside it,
in another process, trio cancels as many tasks that sleep, all at once. Restart: from the send of a message that crashes
one of them until its next incarnation is in its `init`, in turn with one of 10 under another supervisor in the same
tree (here the log is off, as it would write each crash).
"""

import gc
import statistics
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
import trio
import trio.testing

from otp import Actor, ChildSpec, Supervisor, SupervisorRef, child, open_supervisor

from .measure import best, in_fresh_process, interleave, milliseconds, now, rate, ratio, resident
from .table import Row

SPAWNED: Final = 3_000
CROWD: Final = 100_000
FEW: Final = 10
RESTARTS: Final = 101
WEIGHED: Final = 2_000


class Idle(Actor):
    """Does nothing; crashes when it gets a message, and tells when it has come up again."""

    came_up: Callable[[], None] | None = None

    async def init(self) -> None:
        if self.came_up is not None:
            self.came_up()

    async def handle_message(self, message: object) -> None:
        raise RuntimeError


class Bare(Actor):
    """Overrides nothing."""


def specs(count: int) -> list[ChildSpec]:
    return [child(Bare, id=f"idle-{i}") for i in range(count)]


# -- spawn -----------------------------------------------------------------------------------------------


def start_soon() -> float:
    async def nothing() -> None:
        pass

    async def main() -> float:
        begun = now()
        async with trio.open_nursery() as nursery:
            for _ in range(SPAWNED):
                nursery.start_soon(nothing)
        return SPAWNED / (now() - begun)

    return trio.run(main)


def start_children() -> float:
    async def main() -> float:
        supervisor = Supervisor(specs(SPAWNED))
        begun = now()
        async with open_supervisor(supervisor):
            return SPAWNED / (now() - begun)

    return trio.run(main)


def start_instances() -> float:
    async def main() -> float:
        template = Supervisor([child(Bare)], strategy="simple_one_for_one")
        async with open_supervisor(template) as supervisor:
            begun = now()
            for _ in range(SPAWNED):
                await supervisor.start_instance()
            return SPAWNED / (now() - begun)

    return trio.run(main)


def spawn() -> list[Row]:
    """The rows about starting."""
    seen = interleave(
        {"start_soon": start_soon, "children": start_children, "instances": start_instances},
        rounds=20,  # short ones: some of them are undisturbed
    )
    seen = {side: best(runs) for side, runs in seen.items()}
    return [
        Row(
            what="spawn a supervised idle actor / start_soon of a no-op",
            ours=rate(seen["children"]),
            other=rate(seen["start_soon"]),
            value=ratio(seen["children"], seen["start_soon"]),
            must=0.25,
            aim=0.5,
        ),
        Row(
            what="the same with start_instance, each waited for",
            ours=rate(seen["instances"]),
            other=rate(seen["start_soon"]),
            value=ratio(seen["instances"], seen["start_soon"]),
        ),
    ]


# -- the crowd -------------------------------------------------------------------------------------------


@attrs.frozen
class Crowd:
    """What was seen of one crowd."""

    bytes_each: float
    started: float
    stopped: float
    restart_of_many: list[float]
    restart_of_few: list[float]


def our_crowd(count: int) -> Crowd:
    """Start, weigh, restart and stop `count` idle actors."""

    async def main() -> Crowd:
        gc.collect()
        before = resident()
        crowd = Supervisor(specs(count))
        begun = now()
        async with open_supervisor(crowd):
            started = now() - begun
            gc.collect()
            weight = (resident() - before) / count
            begun = now()
        return Crowd(weight, started, now() - begun, [], [])

    return trio.run(main)


async def restart(supervisor: SupervisorRef, id_: str) -> float:
    """Seconds until the child of that id, crashed by a message, has come up again."""
    again = trio.Event()
    Idle.came_up = again.set
    begun = now()
    supervisor.ref(id_).send("crash")
    await again.wait()
    taken = now() - begun
    await trio.testing.wait_all_tasks_blocked()
    return taken


def restarts(count: int) -> tuple[list[float], list[float]]:
    """Seconds for restarts of one of `FEW`, and of one of `count`, in turn."""

    def group(name: str, count: int) -> ChildSpec:
        return child(Supervisor([child(Idle, id=f"idle-{i}") for i in range(count)], intensity=RESTARTS + 1), id=name)

    async def main() -> tuple[list[float], list[float]]:
        async with open_supervisor(Supervisor([group("few", FEW), group("many", count)]), log=False) as root:
            sides = [(root.supervisor("few"), f"idle-{FEW // 2}"), (root.supervisor("many"), f"idle-{count // 2}")]
            seen: list[list[float]] = [[], []]
            for _ in range(RESTARTS):
                for (supervisor, id_), times in zip(sides, seen, strict=True):
                    times.append(await restart(supervisor, id_))
            return seen[0][1:], seen[1][1:]

    return trio.run(main)


def trio_crowd(count: int) -> float:
    """Seconds that trio takes to cancel `count` tasks that sleep."""

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            gc.collect()
            begun = now()
            nursery.cancel_scope.cancel()
        return now() - begun

    return trio.run(main)


def crowd() -> list[Row]:
    """The rows about 100 000 actors."""
    seen = [(in_fresh_process(our_crowd, CROWD), in_fresh_process(trio_crowd, CROWD)) for _ in range(3)]
    ours = [mine for mine, _ in seen]
    few, many = in_fresh_process(restarts, CROWD)
    return [
        Row(
            what=f"memory per supervised idle actor, of {CROWD:,}",
            ours="",
            value=statistics.median(crowd.bytes_each for crowd in ours) / 1000,
            unit="KB",
            must=5,
            aim=3,
            most=True,
        ),
        Row(
            what=f"restart 1 of {CROWD:,} / 1 of {FEW}",
            ours=milliseconds(many),
            other=milliseconds(few),
            value=statistics.median(many) / statistics.median(few),
            must=1.5,
            aim=1.1,
            most=True,
        ),
        Row(
            what=f"ordered stop of {CROWD:,} / trio cancels as many tasks",
            ours=milliseconds([crowd.stopped for crowd in ours]),
            other=milliseconds([theirs for _, theirs in seen]),
            value=ratio([crowd.stopped for crowd in ours], [theirs for _, theirs in seen]),
            must=4,
            aim=2,
            most=True,
        ),
        Row(what=f"start of {CROWD:,}", ours=rate([CROWD / crowd.started for crowd in ours])),
    ]


# -- where the memory is ---------------------------------------------------------------------------------


def weigh(count: int) -> list[tuple[str, float]]:
    """The bytes of each actor, by the module that asked for them, most first."""

    async def main() -> list[tuple[str, float]]:
        tracemalloc.start()
        async with open_supervisor(Supervisor(specs(count))):
            gc.collect()
            by_module: Counter[str] = Counter()
            for entry in tracemalloc.take_snapshot().statistics("filename"):
                path = Path(entry.traceback[0].filename.removeprefix("<attrs generated methods ").removesuffix(">"))
                module = path.with_suffix("").parts if path.suffix == ".py" else path.name.split(".")
                by_module["/".join(module[-2:])] += entry.size
            tracemalloc.stop()
        return [(module, size / count) for module, size in by_module.most_common()]

    return trio.run(main)


def memory() -> str:
    """Where the memory of an idle actor is, as far as Python allocates it; the rest of it is lost in between."""
    parts = [(module, size) for module, size in in_fresh_process(weigh, WEIGHED) if size >= 16]
    return f"{sum(size for _, size in parts):,.0f} = " + " + ".join(f"{size:,.0f} {module}" for module, size in parts)
