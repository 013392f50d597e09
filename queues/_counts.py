"""What one handle of a queue did, as counters that only rise."""

from collections.abc import Iterable

from attrs import define

from ._outcomes import Done, Outcome, Reject, Release, Retry


@define
class QueueCounts:
    """Counters of one `Queue` object since it was made; read them, or let a metrics exporter do so.

    Finishes inside a transaction are counted when they are written, also if it is rolled back later.

    Attributes:
        put, duplicates: jobs stored, and puts whose dedup id was known already.
        claimed: jobs handed out.
        rescued: expired leases (of anybody) that a claim of ours ended.
        set_aside: jobs unknown here that a claim of ours put out of the way.
        buried: jobs that became dead letters while claiming (attempts used up, unreadable, unknown for too long).
        done, retried, rejected, released: outcomes written.
        lost: times the store said that a job is not ours any more.
    """

    put: int = 0
    duplicates: int = 0
    claimed: int = 0
    rescued: int = 0
    set_aside: int = 0
    buried: int = 0
    done: int = 0
    retried: int = 0
    rejected: int = 0
    released: int = 0
    lost: int = 0

    def finished(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes that were written."""
        for outcome in outcomes:
            match outcome:
                case Done():
                    self.done += 1
                case Retry():
                    self.retried += 1
                case Reject():
                    self.rejected += 1
                case Release():
                    self.released += 1
