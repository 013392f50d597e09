"""Arguments are refused where they are given, with the value and what is allowed."""

import math

PRIORITIES = range(-9, 10)
NAME_LIMIT = 200


def check_seconds(name: str, value: object, *, positive: bool = False) -> float:
    """A finite number of seconds, zero or more (more than zero if `positive`).

    Raises:
        TypeError: not a number (a bool is none).
        ValueError: out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} must be a finite number of seconds {'> 0' if positive else '>= 0'}, not {value!r}")
    return value


def check_count(name: str, value: object) -> int:
    """An int of at least 1.

    Raises:
        TypeError: not an int (a bool is none).
        ValueError: less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value!r}")
    return value


def check_name(name: str, value: object) -> str:
    """A text of 1 to `NAME_LIMIT` printable characters.

    Raises:
        TypeError: not a str.
        ValueError: empty, too long or not printable.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {value!r}")
    if not 0 < len(value) <= NAME_LIMIT or not value.isprintable():
        raise ValueError(f"{name} must be 1 to {NAME_LIMIT} printable characters, not {value!r}")
    return value


def check_priority(value: object) -> int:
    """An int from -9 to 9.

    The range is small because a claim looks at each priority that is in use.

    Raises:
        TypeError: not an int (a bool is none).
        ValueError: out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"priority must be an int, not {value!r}")
    if value not in PRIORITIES:
        raise ValueError(
            f"priority must be from {PRIORITIES[0]} to {PRIORITIES[-1]} (lower comes first), not {value!r}"
        )
    return value
