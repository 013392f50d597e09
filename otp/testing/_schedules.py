"""Seeded schedules: the same interleaving of tasks again, and many different ones.

trio runs the tasks that are ready at the same moment in an order that it draws by lot. Code that works by luck in one
order fails in another, once in a hundred runs. Here the lot is drawn from a seed: a body is run under many orders, and
under exactly the one that failed.

What trio has for this (it is what Hypothesis uses) are two names of its own that are not published. They are used in
`_Lots` and nowhere else; a test fails when they move.
"""

from __future__ import annotations

import functools
import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import trio
from trio.testing import MockClock

from .. import _checks as checks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from typing import Any

P = ParamSpec("P")
T = TypeVar("T")

VARIABLE: Final = "OTP_SCHEDULE"
"""The environment variable that says which schedule to repeat."""


class _Lots:
    """Where trio draws the order of its tasks from, and whether it puts them in a fixed order before that."""

    _GENERATOR: Final = "_r"
    _FLAG: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"

    def __init__(self) -> None:
        self._module: Any = getattr(getattr(trio, "_core", None), "_run", None)
        generator = getattr(self._module, self._GENERATOR, None)
        if not isinstance(generator, random.Random) or not isinstance(getattr(self._module, self._FLAG, None), bool):
            raise RuntimeError(  # noqa: TRY004  (not the caller's doing)
                f"trio {trio.__version__} has no trio._core._run.{self._GENERATOR} and .{self._FLAG}, at least not as "
                f"seeded schedules need them: this version of otp.testing has none with this version of trio"
            )
        self.generator = generator

    @property
    def fixed(self) -> bool:
        return bool(getattr(self._module, self._FLAG))

    @fixed.setter
    def fixed(self, value: bool) -> None:
        setattr(self._module, self._FLAG, value)


@contextmanager
def drawn_from(seed: int) -> Generator[None]:
    """Within this block, trio's scheduler and the module `random` draw from `seed`; afterwards as before."""
    lots = _Lots()
    drawn = lots.fixed, lots.generator.getstate(), random.getstate()
    try:
        lots.fixed = True
        lots.generator.seed(seed)
        random.seed(seed)
        yield
    finally:
        lots.fixed = drawn[0]
        lots.generator.setstate(drawn[1])
        random.setstate(drawn[2])


def run_under(schedule: int | None, async_fn: Callable[[], Awaitable[T]]) -> T:
    """Run in virtual time, under that schedule if one is given; what it raises then says how to repeat it."""
    if schedule is None:
        return trio.run(async_fn, clock=MockClock(autojump_threshold=0))
    checks.whole("schedule", schedule, least=0)
    with drawn_from(schedule):
        try:
            return trio.run(async_fn, clock=MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"This was under schedule {schedule}. The same once more: {VARIABLE}={schedule}")
            raise


def seeded_schedules(
    count: int = 20, *, schedule: int | None = None
) -> Callable[[Callable[P, Awaitable[object]]], Callable[P, None]]:
    """Make an async test a plain one that runs its body in virtual time under `count` schedules, one after another.

    ::

        @seeded_schedules(50)
        async def test_two_writers() -> None:
            ...

    The body runs from the start for each, so what it needs is made in it; arguments (fixtures) are the same objects
    each time, and have to be sync ones. The first run that fails ends it, and the error says by which schedule: set the
    environment variable `OTP_SCHEDULE` to that number, or pass it as `schedule`, to run that one alone, as often as you
    like. The suite is the same in each run, since the schedules are numbers 0, 1, 2, ...

    A schedule decides in which order tasks run that are ready at the same time, and what Python's `random` draws, for
    the jitter of restarts among others. It repeats exactly what does not depend on anything else: on threads, the real
    clock, a `random.Random()` of one's own, the order of sets.

    Args:
        count: How many schedules.
        schedule: Run only this one.

    Raises:
        ValueError: if an argument, or, when the test runs, the environment variable is not such a number.
        RuntimeError: when the test runs, if this version of trio cannot be made to draw from a seed.
    """
    checks.whole("count", count, least=1)
    if schedule is not None:
        checks.whole("schedule", schedule, least=0)

    def decorate(body: Callable[P, Awaitable[object]]) -> Callable[P, None]:
        @functools.wraps(body)
        def run_all(*args: P.args, **kwargs: P.kwargs) -> None:
            wanted = _wanted() if schedule is None else schedule
            for number in range(count) if wanted is None else [wanted]:
                run_under(number, functools.partial(body, *args, **kwargs))

        return run_all

    return decorate


def _wanted() -> int | None:
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    if not text.isdecimal():
        raise ValueError(f"{VARIABLE} must be the number of a schedule, not {text!r}")
    return int(text)
