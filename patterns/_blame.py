"""Which exceptions say nothing about the work in which they were raised."""

from __future__ import annotations

from typing import cast

from otp import WorkersClosed
from otp.engines import StoreUnavailable, UnknownPayload

NOT_ITS_FAULT = (StoreUnavailable, WorkersClosed, UnknownPayload)
"""The store is away; the worker processes are being closed; what was stored needs a newer program."""


def is_blameless(error: BaseException, kinds: tuple[type[BaseException], ...] = NOT_ITS_FAULT) -> bool:
    """Whether `error`, or all there is in the group that it is, is of these kinds: the same work may succeed later."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_blameless(each, kinds) for each in cast("BaseExceptionGroup[BaseException]", error).exceptions)
    return isinstance(error, kinds)
