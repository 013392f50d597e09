"""Checks of configuration values: refused where they are given, with what is allowed."""

from __future__ import annotations

import math


def seconds(name: str, value: float, *, above: float = 0.0, infinite: bool = False) -> float:
    """`value` as float if it is a duration in seconds greater than `above`.

    Raises TypeError for anything but int and float (bool included), ValueError for the rest.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if math.isnan(value) or value <= above or (math.isinf(value) and not infinite):
        allowed = f"a number of seconds greater than {above:g}" + (" or math.inf" if infinite else ", finite")
        raise ValueError(f"{name}={value!r}: must be {allowed}")
    return float(value)


def text(name: str, value: str, *, longest: int = 512) -> str:
    """`value` if it is a non-empty printable string: it becomes a key, a log word and a URL part."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if not value or len(value) > longest or not value.isprintable():
        raise ValueError(f"{name}={value[:80]!r}: must be 1 to {longest} printable characters")
    return value
