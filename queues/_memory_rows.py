"""The rows of a queue in memory, and the heaps that play the part of the indexes."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from attrs import evolve, frozen

from otp.engines import DeadLetter, Envelope, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from otp.engines import MemoryTables

E = TypeVar("E", bound=tuple[Any, ...])


@frozen(kw_only=True)
class JobRow:
    """One live job."""

    seq: int
    id: str
    queue: str
    envelope: Envelope
    dedup: str | None
    priority: int
    due_at: float
    created_at: float
    state: Literal["ready", "running", "aside"] = "ready"
    owner: str = ""
    epoch: int = 0
    until: float = 0.0
    attempts: int = 0
    started: bool = False
    releases: int = 0
    aside_at: float = 0.0
    last_error: str | None = None
    failures: tuple[Failure, ...] = ()


@frozen(kw_only=True)
class DeadRow:
    """One dead job: the letter, and what a requeue needs besides."""

    letter: DeadLetter
    priority: int
    dedup: str | None


@frozen(kw_only=True)
class DedupRow:
    """A dedup id, known for ever (None) while its job is there, and for a while afterwards."""

    job_id: str
    expires_at: float | None


class Heaps:
    """The orders in which one queue is looked at.

    An entry stays in its heap when its job goes elsewhere and is dropped when it comes to the top, so that nothing
    is ever searched. Twice the same entry does no harm.
    """

    def __init__(self) -> None:
        self.ready: dict[int, list[tuple[float, int, str]]] = {}  # by priority: (due_at, seq, id)
        self.running: list[tuple[float, int, str]] = []  # (until, epoch, id)
        self.aside: dict[tuple[str, str, int], list[tuple[int, float, int, str]]] = {}
        self.aside_since: list[tuple[float, str]] = []
        self.dedup: list[tuple[float, str]] = []  # (expires_at, dedup id)


class Store:
    """One queue of the memory engine, as seen from within a transaction or a read."""

    def __init__(self, tables: MemoryTables, queue: str) -> None:
        self.tables = tables
        self.queue = queue
        self.jobs = cast("MutableMapping[str, JobRow]", tables.table("hf_job"))
        self.dedups = cast("MutableMapping[tuple[str, str], DedupRow]", tables.table("hf_dedup"))
        self.dead = cast("MutableMapping[str, DeadRow]", tables.table("hf_dead_job"))
        self.heaps = tables.other(f"queues {queue}", Heaps)

    def next_seq(self) -> int:
        """A place at the end; a rolled back one is not given again."""
        return next(self.tables.other("queues seq", count))

    def rows(self) -> Iterator[JobRow]:
        """All live jobs of the queue."""
        return (row for row in self.jobs.values() if row.queue == self.queue)

    # Every change of a row goes through here, so that no index is forgotten.

    def save(self, row: JobRow) -> None:
        """Insert or replace the row."""
        self._before(row.id)
        self.jobs[row.id] = row
        self._index(row)

    def end(self, row: JobRow) -> None:
        """Delete the row; its dedup id is left as it is."""
        self._before(row.id)
        del self.jobs[row.id]

    def _before(self, job_id: str) -> None:
        old = self.jobs.get(job_id)
        if old is not None:
            # Until a rollback its entries look stale and may be dropped.
            self.tables.on_rollback(lambda: self._index(old))

    def _index(self, row: JobRow) -> None:
        match row.state:
            case "ready":
                heappush(self.heaps.ready.setdefault(row.priority, []), (row.due_at, row.seq, row.id))
            case "running":
                heappush(self.heaps.running, (row.until, row.epoch, row.id))
            case "aside":
                e = row.envelope
                heap = self.heaps.aside.setdefault((e.topic, e.codec, e.version), [])
                heappush(heap, (row.priority, row.due_at, row.seq, row.id))
                heappush(self.heaps.aside_since, (row.aside_at, row.id))

    def ready(self, row: JobRow, **changes: Any) -> None:
        """Let the row be claimed by anybody."""
        self.save(evolve(row, state="ready", owner="", until=0.0, started=False, **changes))

    # Tops of the heaps

    def top_ready(self, priority: int) -> JobRow | None:
        """The first of this priority, due or not."""
        return self._top(
            self.heaps.ready[priority],
            lambda row, entry: row.state == "ready" and (row.due_at, row.seq) == entry[:2],
        )

    def top_running(self) -> JobRow | None:
        """The one whose lease runs out first."""
        return self._top(
            self.heaps.running,
            lambda row, entry: row.state == "running" and (row.until, row.epoch) == entry[:2],
        )

    def top_aside(self, kind: tuple[str, str, int]) -> JobRow | None:
        """The first that was set aside of this topic, codec and version."""
        return self._top(self.heaps.aside[kind], lambda row, entry: row.state == "aside" and row.seq == entry[2])

    def oldest_aside(self) -> JobRow | None:
        """The one that was set aside first."""
        return self._top(self.heaps.aside_since, lambda row, entry: row.state == "aside" and row.aside_at == entry[0])

    def _top(self, heap: list[E], valid: Callable[[JobRow, E], bool]) -> JobRow | None:
        while heap:
            row = self.jobs.get(heap[0][-1])
            if row is not None and valid(row, heap[0]):
                return row
            heappop(heap)
        return None
