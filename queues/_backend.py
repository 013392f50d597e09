"""What a store must be able to do to hold a queue, and how the store of an engine is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from otp.engines import DeadLetter, Engine, Token, Transaction

    from ._records import Claimed, Finish, NewJob, Policy, PutResult, QueueStatistics


class QueueBackend(ABC):
    """One queue in one store.

    Everything is a single operation of the store (a statement, a transaction, a script, an atomic batch), so that
    a process that dies anywhere leaves the queue whole. The operations are asynchronous and speak of jobs and
    tokens only: nothing here is particular to SQL.

    The rules every backend keeps:

    - **Order**: by (priority, due time, order of arrival). What is released without a delay keeps all three.
    - **Fence**: `claim` gives the job this engine's owner and an epoch higher than any before; it is never
      lowered, by no release, no retry and no requeue. `start`, `extend` and `finish` compare (owner, epoch)
      inside the operation that writes. What does not match is left as it is and reported as lost.
    - **Attempts**: counted when a job is started, by `claim` or by `start`; taken back by `Release`. A lease that
      ran out counts if the job had been started, and not otherwise.
    - **Time** is the engine's, never the process's.
    - **A claim's result is never dropped**: once the operation has begun, cancelling returns the result.
    """

    lease_kind: str
    """The kind of this queue's lease tokens, registered with the engine's heartbeat by the backend itself."""

    @abstractmethod
    async def put(self, jobs: Sequence[NewJob], *, tx: Transaction | None = None) -> list[PutResult]:
        """Store the jobs in this order, all or none; a known dedup id stores nothing and names the first job.

        A dedup id is known from the moment it is stored until the policy's `dedup_window` after its job ended
        (was done, or its dead letter was dropped).
        """

    @abstractmethod
    async def claim(self, limit: int, policy: Policy, *, start: bool) -> Claimed:
        """Take up to `limit` jobs that are due, together with the upkeep that is due.

        In the same operation, and each step bounded, however much there is to do:

        1. Expired leases end. A job that had been started `policy.max_attempts` times is dead, any other is ready
           again in its old place.
        2. Jobs set aside for longer than `policy.unknown_grace` are dead.
        3. The first jobs in order are taken. Those of a topic or a version that `policy.known` lacks are set
           aside: not leased, not counted, out of the way of the others. Jobs set aside earlier, by anybody, are
           candidates in their place if `policy.known` has them.

        May return no job although there are some, when it had much to set aside or to bury; then `wait` returns.
        """

    @abstractmethod
    async def wait(self, policy: Policy) -> None:
        """Return when a claim might find something to do, at the latest when it does.

        Woken by the store and by time (delays, leases of others that run out), never by a poll that writes.
        """

    @abstractmethod
    async def start(self, tokens: Sequence[Token]) -> Collection[Token]:
        """Count an attempt for each job that was claimed without `start` and is still ours; return the lost."""

    @abstractmethod
    async def extend(self, tokens: Sequence[Token]) -> Collection[Token]:
        """Renew the leases, for the engine's lease time from now; return the lost."""

    @abstractmethod
    async def finish(
        self, finishes: Sequence[Finish], policy: Policy, *, tx: Transaction | None = None
    ) -> Collection[Token]:
        """Write the outcomes of the jobs that are still ours, in one operation; return the tokens of the others.

        `Reject` makes a dead letter. The caller has turned a `Retry` of a last attempt into a `Reject`.
        """

    @abstractmethod
    async def statistics(self) -> QueueStatistics:
        """Count what is there; the cost may grow with the jobs that are there, not with those that were."""

    @abstractmethod
    async def dead_letters(self, limit: int, after: tuple[float, str] | None) -> list[DeadLetter]:
        """List dead letters by (last_at, id); `after` is that of the last one of the page before."""

    @abstractmethod
    async def dead_letter(self, job_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""

    @abstractmethod
    async def requeue(self, job_ids: Sequence[str]) -> int:
        """Make these dead letters jobs again: same id, epoch going on, attempts and releases 0, failures kept."""

    @abstractmethod
    async def drop(self, job_ids: Sequence[str], policy: Policy) -> int:
        """Delete these dead letters; return how many there were."""


_BACKENDS: dict[str, str | Callable[..., QueueBackend]] = {
    "memory": "queues._memory:MemoryQueue",
    "sqlite": "queues._sqlite:SqliteQueue",
}


def register_backend(kind: str, factory: Callable[[Engine[Any], str], QueueBackend]) -> None:
    """Let queues be held by engines of this kind.

    Args:
        kind: the engine's `kind`, such as ``"mysql"``.
        factory: called with the engine and the queue's name when a `Queue` is made, before the engine is open.

    Raises:
        ValueError: the kind has a backend already.
    """
    if kind in _BACKENDS:
        raise ValueError(f"engines of kind {kind!r} already have a queue backend")
    _BACKENDS[kind] = factory


def backend_for(engine: Engine[Any], name: str) -> QueueBackend:
    """Make the backend of a queue on this engine.

    Raises:
        ValueError: no backend is known for the engine's kind.
    """
    found = _BACKENDS.get(engine.kind)
    if found is None:
        known = ", ".join(sorted(_BACKENDS))
        raise ValueError(f"no queue backend for engines of kind {engine.kind!r}; known: {known}")
    if isinstance(found, str):
        # Late, so that `import queues` loads no client library of an engine that is not used.
        module, _, attribute = found.partition(":")
        found = getattr(import_module(module), attribute)
    return found(engine, name)
