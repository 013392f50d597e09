"""How the handling of a job ended, as values."""

import traceback
from typing import cast

from attrs import field, frozen, validators

from ._checks import check_seconds

ERROR_LIMIT = 16_384  # characters of a traceback that are stored: a recursion error's is megabytes


def _seconds(_instance: object, _attribute: object, value: object) -> None:
    check_seconds("delay", value)


def storable(text: str) -> str:
    """The text as every store takes it: without NUL, and without the lone surrogates that odd file names bring."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


def _reason(value: object) -> str:
    return storable(value) if isinstance(value, str) else cast("str", value)  # the validator says what it must be


def error_text(error: BaseException | str | None) -> str | None:
    """What is stored of an error: its traceback, or the text itself; the middle of a very long one is left out."""
    if error is None:
        return None
    text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
    if len(text) > ERROR_LIMIT:
        half = ERROR_LIMIT // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return storable(text)


@frozen
class Done:
    """The work is done: the job is deleted. Its dedup id stays known for `dedup_window`."""


@frozen
class Retry:
    """The handler failed: the job comes back after `delay` seconds, or is dead when this was its last attempt.

    The attempt stays counted.
    """

    delay: float = field(default=0.0, validator=_seconds)
    error: str | None = field(default=None, kw_only=True, converter=error_text)


@frozen
class Reject:
    """No further attempt can help: the job goes to the dead letters, with `reason` in words."""

    reason: str = field(
        converter=_reason, validator=validators.and_(validators.instance_of(str), validators.min_len(1))
    )
    error: str | None = field(default=None, kw_only=True, converter=error_text)


@frozen
class Release:
    """Given back by us, through no fault of the job (drain, outage): the attempt is not counted.

    Without a delay the job keeps its place in the queue.
    """

    delay: float = field(default=0.0, validator=_seconds)


Outcome = Done | Retry | Reject | Release
