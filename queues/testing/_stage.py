"""What the conformance tests play with: payloads, pods, and waiting for a condition instead of for a time."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import trio
from attrs import frozen

from otp.engines import Envelope, Topic
from queues import NewJob, Queue, backend_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from otp.engines import Engine
    from queues import Job

T = TypeVar("T")
PATIENCE = 30.0  # seconds within which anything that must happen has happened, also on a machine under load


@frozen
class Parcel:
    """A payload."""

    number: int


@frozen
class NewParcel:
    """The same payload one version later."""

    number: int
    label: str


@frozen
class Letter:
    """Another payload."""

    text: str


PARCEL = Topic("parcel", Parcel)
NEW_PARCEL = Topic("parcel", NewParcel, version=2)
LETTER = Topic("letter", Letter)


@NEW_PARCEL.upcast(1)
def label_parcel(old: dict[str, Any]) -> dict[str, Any]:
    """Give an old parcel a label."""
    return {**old, "label": "none"}


class Stage:
    """Base of the parts of the suite: what a test needs to set its scene.

    Attributes:
        transactions: whether the engine has transactions of the user's own.
        keeps_place: whether a job that comes back keeps its place before later ones.
        lease: lease time of the engines that `make_engine` makes. Some tests wait until it has run out.
    """

    transactions = True
    keeps_place = True
    lease = 1.0

    @asynccontextmanager
    async def pods(self, make_engine: Callable[[], Engine[Any]], number: int = 1) -> AsyncGenerator[list[Engine[Any]]]:
        """Open so many engines on one store, each with an owner of its own: the pods of a deployment."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(make_engine()) for _ in range(number)]

    def queue(self, engine: Engine[Any], name: str = "post", **options: Any) -> Queue[Parcel]:
        """Make a handle of the queue the tests use."""
        return Queue(engine, name, [PARCEL], **options)

    async def take(self, queue: Queue[T], limit: int = 1, *, start: bool = True) -> list[Job[T]]:
        """Claim as soon as there is something."""
        with trio.fail_after(PATIENCE):
            while not (jobs := await queue.claim(limit, start=start)):
                await queue.wait()
            return jobs

    async def one(self, queue: Queue[T], *, start: bool = True) -> Job[T]:
        """Claim one job as soon as there is one."""
        (job,) = await self.take(queue, start=start)
        return job

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition of the store that nothing announces."""
        with trio.fail_after(PATIENCE):
            while not await condition():  # noqa: ASYNC110 - there is no event to wait for
                await trio.sleep(0.01)

    def die(self, queue: Queue[Any], *jobs: Job[Any]) -> None:
        """Let the holder of these jobs die, as far as the store can see: nobody renews their leases."""
        for job in jobs:
            queue.engine.let_go(job.lease)

    async def put_bytes(self, engine: Engine[Any], body: bytes, *, topic: str = "parcel", version: int = 1) -> str:
        """Put what no `Queue` would: a damaged payload, or one of an unknown kind."""
        envelope = Envelope(topic=topic, version=version, body=body, headers={"trace": "t1"})
        job = NewJob(id=str(uuid4()), envelope=envelope, dedup=None, delay=0.0, priority=0)
        (result,) = await backend_for(engine, "post").put([job])
        return result.job_id
