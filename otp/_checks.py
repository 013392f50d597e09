"""Checks of arguments: each raises an error that names the argument, the value and what is allowed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from types import UnionType


def seconds(argument: str, value: object, *, otherwise: str = "") -> None:
    """A finite number >= 0. ``otherwise`` says what else the argument allows."""
    if not _is_number(value) or not 0.0 <= value < math.inf:
        raise ValueError(f"{argument} must be a finite number of seconds >= 0{otherwise}, not {value!r}")


def positive_seconds(argument: str, value: object, *, otherwise: str = "") -> None:
    """A finite number > 0. ``otherwise`` says what else the argument allows."""
    if not _is_number(value) or not 0.0 < value < math.inf:
        raise ValueError(f"{argument} must be a finite number of seconds > 0{otherwise}, not {value!r}")


def number(argument: str, value: object, *, least: float, most: float | None = None) -> None:
    """A finite number from ``least`` on, up to ``most``."""
    if not _is_number(value) or not least <= value < math.inf or (most is not None and value > most):
        allowed = f">= {least:g}" if most is None else f"from {least:g} to {most:g}"
        raise ValueError(f"{argument} must be a finite number {allowed}, not {value!r}")


def whole(argument: str, value: object, *, least: int) -> None:
    """A whole number >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{argument} must be a whole number >= {least}, not {value!r}")


def text(argument: str, value: object, *, without: str | None = None) -> None:
    """A string that is not empty, ``without`` a certain character in it."""
    if not isinstance(value, str) or not value or (without is not None and without in value):
        but = "" if without is None else f" and has no {without!r} in it"
        raise ValueError(f"{argument} must be a string that is not empty{but}, not {value!r}")


def choice(argument: str, value: object, choices: tuple[str, ...], *, otherwise: str = "") -> None:
    """One of ``choices``; ``otherwise`` is what is allowed besides."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}{otherwise}, not {value!r}")


def instance(argument: str, value: object, kind: type | UnionType, description: str) -> None:
    """An instance of ``kind``, which the error calls by its ``description``."""
    if not isinstance(value, kind):
        raise TypeError(f"{argument} must be {description}, not {value!r}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
