"""A job in the hands of its worker."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from attrs import field, frozen

from otp.engines import Lease

T = TypeVar("T")


@frozen(kw_only=True, eq=False)
class Job(Generic[T]):
    """A job that was claimed, with the lease that makes it ours for a while.

    Every outcome is compared with the lease in the store itself: once somebody else has taken the job over, ours
    changes nothing and raises `LeaseLost`.

    Attributes:
        id: the job's id. It stays the same over retries, releases and a requeue from the dead letters.
        queue: name of the queue.
        payload: the value that was put, brought up to the newest version known here.
        topic: wire name of the payload's type.
        attempt: number of this attempt, the first is 1. Releases do not count, crashes and lost leases do.
        releases: how often the job was given back after it had been started. One that is released again and again is
            longer than the time between two deploys.
        priority: lower comes first.
        enqueued_at: engine time at which it was put.
        headers: what the publisher sent along.
        last_error: how the attempt before this one failed, None if none has.
        lease: renewed by the engine's heartbeat until the job is finished; `lease.guard()` ends work when it is lost.
    """

    id: str
    queue: str
    payload: T = field(repr=False)
    topic: str
    attempt: int
    releases: int
    priority: int
    enqueued_at: float = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    last_error: str | None = field(repr=False)
    lease: Lease = field(repr=False)
