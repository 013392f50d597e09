"""Messages and calls within one process, beside what trio offers for it.

The base of the sends is one trio memory channel (capacity 100) with a task that sends and one that receives. The
actor is supervised, its handler an `async def` that counts. After each burst the sender lets others run.

The base of the calls is what one would write by hand with `trio.lowlevel`: a deque, one task parked on it, and the
reply by `reschedule`. It has neither timeout nor supervision, and nobody is told when the server dies; ours has the
default timeout and both others.
"""

from collections import deque
from collections.abc import Awaitable, Callable

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, checkpoint, current_task, reschedule, wait_task_rescheduled

from otp import Actor, Ref, Supervisor, child, open_supervisor

from .measure import best, interleave, now, rate, ratio
from .table import Row

SENDS = 3_000
BURSTED = 25_000
BURST = 50
CALLS = 1_500


class Counter(Actor):
    """Counts messages, and answers calls with what they bring."""

    async def init(self) -> None:
        self.left = 0
        self.done = trio.Event()

    async def handle_message(self, message: object) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()

    async def handle_call(self, request: object) -> object:
        return request


def with_actor(body: Callable[[Counter, Ref], Awaitable[float]]) -> float:
    """Run `body` with a supervised actor, and with its object."""
    actors: list[Counter] = []

    def make() -> Counter:
        actors.append(Counter())
        return actors[-1]

    async def main() -> float:
        async with open_supervisor(Supervisor([child(make, id="counter")])) as supervisor:
            return await body(actors[0], supervisor.ref("counter"))

    return trio.run(main)


def channel() -> float:
    async def main() -> float:
        sender, receiver = trio.open_memory_channel[int](100)

        async def send() -> None:
            async with sender:
                for i in range(SENDS):
                    await sender.send(i)

        begun = now()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for _ in receiver:
                pass
        return SENDS / (now() - begun)

    return trio.run(main)


def send_yielding() -> float:
    async def body(actor: Counter, ref: Ref) -> float:
        actor.left = SENDS
        begun = now()
        for i in range(SENDS):
            ref.send(i)
            await checkpoint()
        await actor.done.wait()
        return SENDS / (now() - begun)

    return with_actor(body)


def send_in_bursts() -> float:
    async def body(actor: Counter, ref: Ref) -> float:
        actor.left = BURSTED
        begun = now()
        for i in range(0, BURSTED, BURST):
            for j in range(i, i + BURST):
                ref.send(j)
            await checkpoint()
        await actor.done.wait()
        return BURSTED / (now() - begun)

    return with_actor(body)


def call() -> float:
    async def body(_: Counter, ref: Ref) -> float:
        begun = now()
        for i in range(CALLS):
            await ref.call(i)
        return CALLS / (now() - begun)

    return with_actor(body)


class Slot:
    """A request of the call by hand."""

    __slots__ = ("message", "task")

    def __init__(self, message: object) -> None:
        self.message = message
        self.task: Task | None = current_task()

    def abort(self, _: RaiseCancelT) -> Abort:
        self.task = None
        return Abort.SUCCEEDED


class Server:
    """The server of the call by hand."""

    def __init__(self) -> None:
        self.queue: deque[Slot] = deque()
        self.parked: Task | None = None

    def unpark(self, _: RaiseCancelT) -> Abort:
        self.parked = None
        return Abort.SUCCEEDED

    async def handle(self, message: object) -> object:
        return message

    async def serve(self) -> None:
        while True:
            if self.queue:
                await checkpoint()
            else:
                self.parked = current_task()
                await wait_task_rescheduled(self.unpark)
            while self.queue:
                slot = self.queue.popleft()
                answer = await self.handle(slot.message)
                task, slot.task = slot.task, None
                if task is not None:
                    reschedule(task, outcome.Value(answer))

    async def call(self, message: object) -> object:
        slot = Slot(message)
        self.queue.append(slot)
        task, self.parked = self.parked, None
        if task is not None:
            reschedule(task)
        return await wait_task_rescheduled(slot.abort)


def call_by_hand() -> float:
    async def main() -> float:
        server = Server()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve)
            begun = now()
            for i in range(CALLS):
                await server.call(i)
            taken = now() - begun
            nursery.cancel_scope.cancel()
        return CALLS / taken

    return trio.run(main)


def measure() -> list[Row]:
    """The rows of this module."""
    seen = interleave(
        {
            "channel": channel,
            "yielding": send_yielding,
            "bursts": send_in_bursts,
            "by hand": call_by_hand,
            "call": call,
        },
        rounds=40,  # short ones: some of them are undisturbed
    )
    seen = {side: best(runs) for side, runs in seen.items()}
    send = "send{} / memory channel send + receive"
    return [
        Row(
            what=send.format(", sender yields each time"),
            ours=rate(seen["yielding"]),
            other=rate(seen["channel"]),
            value=ratio(seen["yielding"], seen["channel"]),
            must=1.0,
            aim=1.3,
        ),
        Row(
            what=send.format(f" in bursts of {BURST}"),
            ours=rate(seen["bursts"]),
            other=rate(seen["channel"]),
            value=ratio(seen["bursts"], seen["channel"]),
            must=8,
            aim=20,
        ),
        Row(
            what="call, default timeout / by hand: deque + reschedule",
            ours=rate(seen["call"]),
            other=rate(seen["by hand"]),
            value=ratio(seen["call"], seen["by hand"]),
            must=0.7,
            aim=0.9,
        ),
    ]
