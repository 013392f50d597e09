"""What dead letters say, and how failures are remembered: the same in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otp.engines import Failure

if TYPE_CHECKING:
    from ._records import Policy

HISTORY = 10  # failures kept with a job: the first, and the last ones
SUMMARY = 2_000  # characters of each; the end of a traceback says most


def used_up(max_attempts: int) -> str:
    """The reason when the last attempt failed."""
    return f"attempts used up (max_attempts={max_attempts})"


def lease_ran_out(owner: str, attempt: int) -> str:
    """The error of an attempt whose worker never said how it ended."""
    return f"the lease ran out in attempt {attempt}: its holder {owner} died, stalled or lost the store"


def unknown_too_long(policy: Policy, topic: str, codec: str, version: int) -> str:
    """The reason when nobody came who knows the topic, codec or version."""
    known = {name: versions for (name, with_codec), versions in policy.known.items() if with_codec == codec}
    if topic in known:
        oldest, newest = known[topic]
        here = f"version {newest}" if oldest == newest else f"versions {oldest} to {newest}"
        what = f"version {version} of topic {topic!r} is not known here ({here})"
    else:
        topics = ", ".join(sorted(repr(name) for name in known)) or "none"
        what = f"topic {topic!r} ({codec}) is not known here (topics: {topics})"
    return f"{what}, and nobody who knows it came within unknown_grace={policy.unknown_grace:g} s"


def unreadable(error: BaseException) -> str:
    """The reason when the payload cannot be turned back into a value."""
    return f"payload cannot be read: {error}"


def failure(attempt: int, at: float, owner: str, error: str | None) -> Failure:
    """The short record of a failed attempt."""
    return Failure(attempt=attempt, at=at, owner=owner, error=(error or "no error was given")[-SUMMARY:])


def remembered(failures: tuple[Failure, ...], another: Failure) -> tuple[Failure, ...]:
    """The failures with one more; of many only the first and the last ones."""
    failures = (*failures, another)
    return failures if len(failures) <= HISTORY else (failures[0], *failures[2:])
