"""Arguments are refused where they are given, with the value and what is allowed."""

from __future__ import annotations

import math


def check_name(what: str, value: object) -> None:
    """Refuse what cannot be a durable name, key, step or id."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {value!r}")
    if not value or "\0" in value:
        raise ValueError(f"{what} must be a text that is not empty and has no NUL in it, not {value!r}")


def check_count(what: str, value: object, *, least: int) -> None:
    """Refuse what is not a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{what} must be at least {least}, not {value!r}")


def check_seconds(what: str, value: object) -> float:
    """Return a duration as a float; refuse what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number of seconds, not {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{what} must be a finite number of seconds from 0 on, not {value!r}")
    return float(value)
