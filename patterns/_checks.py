"""Refuse wrong settings where they are given: the argument, the value, and what is allowed."""

from __future__ import annotations

import math
from typing import Any


def check_count(argument: str, value: object) -> int:
    """Return `value` if it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{argument} must be at least 1, not {value!r}")
    return value


def check_limit(argument: str, value: object) -> float:
    """Return `value` if it is a number of seconds above 0, or math.inf."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{argument} must be a number of seconds (or math.inf), not {value!r}")
    if math.isnan(value) or value <= 0:
        raise ValueError(f"{argument} must be more than 0 seconds (or math.inf), not {value!r}")
    return float(value)


def check_instance(argument: str, value: Any, kind: type[Any]) -> Any:
    """Return `value` if it is a `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{argument} must be a {kind.__name__}, not {value!r}")
    return value
