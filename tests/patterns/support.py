"""What the tests of the patterns share: payloads, pods on one memory store, and a store that goes away."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from attrs import frozen

from otp import Runtime, Supervisor, SupervisorRef, child, open_supervisor
from otp.engines import MemoryEngine, MemoryStore, StoreUnavailable, Topic
from otp.testing import CapturedEvents, capture_events
from patterns import QueueConsumer
from queues import Queue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from checkpoints import NameLeases
    from otp import ChildSpec, Ref
    from otp.engines import Engine, Lease, Transaction
    from queues import Job

T = TypeVar("T")
PATIENCE = 30.0


@frozen
class Task:
    """A payload."""

    name: str


TASK = Topic("task", Task)


class FlakyEngine(MemoryEngine):
    """A memory engine that can be cut off from its store, and whose next writes can be held up."""

    down = False

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("cut off")

    async def _write(self, fn: Callable[[Any], T]) -> T:
        self._check()
        return await super()._write(fn)

    async def read(self, fn: Callable[[Any], T]) -> T:
        self._check()
        return await super().read(fn)

    def transaction(self, **options: Any) -> AbstractAsyncContextManager[Transaction]:
        self._check()
        return super().transaction(**options)

    async def watch(self, probe: Callable[[Any, float], float]) -> None:
        def checked(tables: Any, now: float) -> float:
            self._check()
            return probe(tables, now)

        await super().watch(checked)


@frozen
class Pod:
    """One process, as far as the store can see."""

    engine: Any
    runtime: Runtime
    events: CapturedEvents
    supervisor: SupervisorRef

    def ref(self, id_: str) -> Ref:
        ref = self.supervisor.ref(id_)
        assert ref is not None
        return ref

    @property
    def held(self) -> int:
        """How many leases its engine renews."""
        return len(self.engine._heartbeat)

    def status(self, id_: str) -> str:
        return next(each.status for each in self.supervisor.which_children() if each.id == id_)

    async def drain(self, seconds: float) -> list[str]:
        return await self.runtime.drain(trio.current_time() + seconds)

    @property
    def restarts(self) -> int:
        root = self.runtime.statistics().root
        assert root is not None
        return root.restarts


@asynccontextmanager
async def pod(
    children: Callable[[Any], Sequence[ChildSpec]],
    *,
    store: MemoryStore | None = None,
    lease: float = 15.0,
    make: Callable[..., Engine[Any]] = FlakyEngine,
) -> AsyncGenerator[Pod]:
    """Run the children, which `children(engine)` makes, as a pod on `store`."""
    engine: Any = make(store=store or MemoryStore(), lease=lease)
    runtime = Runtime()
    app = Supervisor([child(lambda: engine, id="store"), *children(engine)], strategy="rest_for_one")
    with capture_events(runtime) as events:
        async with open_supervisor(app, runtime=runtime, log=False) as supervisor:
            yield Pod(engine, runtime, events, supervisor)


class Consumer(QueueConsumer[Task]):
    """Does with each job what the test says."""

    def __init__(self, queue: Queue[Task], work: Callable[[Job[Task]], Awaitable[Any]], **options: Any) -> None:
        super().__init__(queue, **options)
        self._work_of_test = work

    async def handle_job(self, job: Job[Task]) -> Any:
        return await self._work_of_test(job)


def tasks(engine: Engine[Any], name: str = "tasks", **options: Any) -> Queue[Task]:
    """The queue that the tests use."""
    return Queue(engine, name, [TASK], **options)


async def until(condition: Callable[[], object]) -> None:
    """Wait, in virtual time or for real, until something has come about that no event tells."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - there is none to wait for
            await trio.sleep(0.005)


def empty() -> list[Any]:
    """A list to be filled by what a test calls."""
    return []


async def acquired(names: NameLeases, name: str) -> Lease:
    """The lease, which nobody else has."""
    lease = await names.acquire(name)
    assert lease is not None
    return lease


async def shielded_sleep(seconds: float) -> None:
    """What a handler that does not obey does."""
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)
