"""What passes between the queue and its backend: plain values that know nothing of payload types."""

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from otp.engines import Envelope, Token

from ._outcomes import Outcome


@frozen(kw_only=True)
class NewJob:
    """A job to be stored.

    The id is made by the publisher: when a connection breaks in mid-commit, the same put can be sent again.
    """

    id: str
    envelope: Envelope
    dedup: str | None
    delay: float
    priority: int


@frozen(kw_only=True)
class PutResult:
    """What became of a job that was put.

    `duplicate` is True when the dedup id was known already: nothing was stored, and `job_id` is the first job's.
    """

    job_id: str
    duplicate: bool = False


@frozen(kw_only=True)
class Policy:
    """The rules of one queue that its store applies by itself.

    Attributes:
        known: what this process can decode: (topic, codec) with the oldest and the newest version it can.
        max_attempts: a job whose lease ran out in this attempt or a later one is dead.
        unknown_grace: seconds a job that nobody here knows is kept aside before it is dead.
        dedup_window: seconds a dedup id is remembered after its job ended.
    """

    known: Mapping[tuple[str, str], tuple[int, int]]
    max_attempts: int
    unknown_grace: float
    dedup_window: float

    def knows(self, topic: str, codec: str, version: int) -> bool:
        """Whether such a payload can be decoded here."""
        oldest, newest = self.known.get((topic, codec), (1, 0))
        return oldest <= version <= newest


@frozen(kw_only=True)
class ClaimedJob:
    """A job that is ours now. `attempts` are those counted so far, this one included if it was started."""

    token: Token
    envelope: Envelope
    attempts: int
    started: bool
    releases: int
    priority: int
    enqueued_at: float
    last_error: str | None


@frozen(kw_only=True)
class Claimed:
    """What one claim did.

    Attributes:
        jobs: the jobs taken, in the queue's order.
        rescued: leases of others that had run out.
        buried: jobs that went to the dead letters on the way (attempts used up, unknown for too long).
        set_aside: jobs of topics or versions unknown here, kept for those who know them.
    """

    jobs: Sequence[ClaimedJob] = ()
    rescued: int = 0
    buried: int = 0
    set_aside: int = 0


@frozen(kw_only=True)
class Finish:
    """One outcome to be written, if the token still is the job's."""

    token: Token
    outcome: Outcome


@frozen(kw_only=True)
class QueueStatistics:
    """What is in a queue now.

    Attributes:
        ready: jobs that may be claimed at once.
        delayed: jobs that wait for their time.
        running: jobs under a lease, handed out and not yet finished (also those whose lease ran out unnoticed).
        set_aside: jobs of a topic or version that no consumer so far knew.
        dead: dead letters.
        oldest_ready_age: seconds for which the oldest ready job has been due; 0 when there is none.
        next_due_in: seconds until the next delayed job is due; None when there is none.
    """

    ready: int
    delayed: int
    running: int
    set_aside: int
    dead: int
    oldest_ready_age: float
    next_due_in: float | None = field(default=None)
