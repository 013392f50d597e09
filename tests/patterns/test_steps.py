"""Named steps: run once, known by name and occurrence, and their value is always the stored one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import frozen

from checkpoints import Checkpoints, NameLeases
from otp import Runtime
from otp.engines import LeaseLost, MemoryEngine, MemoryStore
from patterns import Steps
from patterns._steps import returns
from tests.patterns.support import acquired

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen
class Point:
    x: int
    y: int


class FakeContext:
    """As much of a child as steps need."""

    path = "app/test"

    def __init__(self):
        self.runtime = Runtime()

    def emit(self, event):
        self.runtime.events.emit(event)


def context() -> Any:
    return FakeContext()


async def nowhere() -> None:
    await trio.lowlevel.checkpoint()


class Run:
    """One computation on a store, to be interrupted and gone on with."""

    def __init__(self, store):
        self.store = store
        self.calls = []

    async def __call__(self, fn):
        async with MemoryEngine(store=self.store) as engine:
            names = NameLeases(engine)
            lease = await acquired(names, "work")
            checkpoint = await Checkpoints(engine).open("work", lease)
            try:
                return await fn(Steps(checkpoint, context(), boundary=nowhere, processes=None))
            finally:
                await names.release(lease)

    def returning(self, value, kind=object):
        def fn():
            self.calls.append(value)
            return value

        fn.__annotations__["return"] = kind
        return fn


@pytest.fixture
def run(autojump_clock):
    return Run(MemoryStore())


async def test_a_saved_step_does_not_run_again_and_gives_the_same_value(autojump_clock, run):
    async def work(steps):
        return [
            await steps("point", run.returning(Point(1, 2), Point)),
            await steps("tuple", run.returning((1, 2), tuple[int, ...])),
            await steps("none", run.returning(None, None)),
            await steps("table", run.returning({"a": Point(0, 0)}, dict[str, Point])),
        ]

    first = await run(work)
    assert first == [Point(1, 2), (1, 2), None, {"a": Point(0, 0)}]
    again = await run(work)
    assert again == first
    assert len(run.calls) == 4


async def test_a_value_is_what_was_stored_also_the_first_time(autojump_clock, run):
    """What JSON cannot tell apart shows at once, and not at the first interruption."""

    async def work(steps):
        return await steps("pair", run.returning((1, 2), list[int]))

    assert await run(work) == [1, 2]
    assert await run(work) == [1, 2]


async def test_occurrences_count_per_name(autojump_clock, run):
    async def work(steps):
        found = []
        for number in range(3):
            found.append(await steps("each", run.returning(number, int)))
            if interrupt and number == 1:
                raise ValueError("interrupted")
            found.append(await steps("other", run.returning(10 + number, int)))
        return found

    interrupt = True
    with pytest.raises(ValueError, match="interrupted"):
        await run(work)
    interrupt = False
    assert await run(work) == [0, 10, 1, 11, 2, 12]
    assert run.calls == [0, 10, 1, 11, 2, 12]


async def test_steps_side_by_side(autojump_clock, run):
    async def slow(number: int) -> int:
        run.calls.append(number)
        await trio.sleep(3 - number)
        if number == broken:
            raise ValueError("interrupted")
        return number

    async def work(steps):
        found = {}

        async def one(number):
            found[number] = await steps(f"part {number}", slow, number)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(one, number)
        return found

    broken: int | None = 0  # the slowest: the others are saved by then
    with pytest.raises(ExceptionGroup):
        await run(work)
    broken = None
    assert await run(work) == {0: 0, 1: 1, 2: 2}
    assert sorted(run.calls) == [0, 0, 1, 2]


async def test_side_by_side_one_name_is_refused(autojump_clock, run):
    async def work(steps):
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(steps, "part", run.returning(number, int))

    with pytest.raises(ExceptionGroup) as caught:
        await run(work)
    assert caught.group_contains(ValueError, match="'part' is used by a step that is under way")


async def test_the_librarys_own_name_is_refused(autojump_clock, run):
    with pytest.raises(ValueError, match="must not be 'accepted'"):
        await run(lambda steps: steps("accepted", run.returning(1, int)))


async def test_a_failed_step_is_not_saved(autojump_clock, run):
    async def work(steps):
        await steps("one", run.returning(1, int))
        return await steps("two", fails)

    def fails() -> int:
        run.calls.append("two")
        if run.calls.count("two") == 1:
            raise ValueError("boom")
        return 2

    with pytest.raises(ValueError, match="boom"):
        await run(work)
    assert await run(work) == 2
    assert run.calls == [1, "two", "two"]


async def test_arguments_and_awaitables(autojump_clock, run):
    async def add(a: int, *, b: int) -> int:
        await trio.lowlevel.checkpoint()
        return a + b

    assert await run(lambda steps: steps("add", add, 1, b=2)) == 3
    assert await run(lambda steps: steps("add", functools.partial(add, 1), b=2)) == 3


async def test_fault_26_of_two_executors_of_one_step_one_saves_and_the_other_is_told(autojump_clock):
    """Both run the step's function; one insert wins."""
    store = MemoryStore()
    both_in = trio.Event()
    saved = []

    async def executor(engine, lease, go_on):
        checkpoint = await Checkpoints(engine).open("work", lease)
        steps = Steps(checkpoint, context(), boundary=nowhere, processes=None)

        async def body() -> int:
            await go_on.wait()
            return int(lease.token.epoch)

        saved.append(await steps("one", body))

    async with MemoryEngine(store=store, lease=3.0) as old, MemoryEngine(store=store, lease=3.0) as new:
        first = await acquired(NameLeases(old), "work")
        old.let_go(first)
        async with trio.open_nursery() as nursery:
            refused = []

            async def zombie():
                try:
                    await executor(old, first, both_in)
                except LeaseLost:
                    refused.append(1)

            nursery.start_soon(zombie)
            await trio.sleep(3.1)
            second = await acquired(NameLeases(new), "work")
            nursery.start_soon(executor, new, second, both_in)
            await trio.testing.wait_all_tasks_blocked()
            both_in.set()
        assert saved == [2]
        assert refused == [1]
        view = await Checkpoints(new).peek("work")
        assert view is not None
        assert [step.epoch for step in view.steps] == [2]


# -- return annotations


class Callable:
    def __call__(self) -> int:
        return 1

    def method(self) -> list[int]:
        return [1]


def only_for_type_checkers(table: Mapping[str, int]) -> dict[str, int]:
    return dict(table)


def unannotated():
    return 1


def unknown() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
    return None


@functools.wraps(only_for_type_checkers)
def wrapper(*args):
    return only_for_type_checkers(*args)


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (Callable(), int),
        (Callable().method, list[int]),
        (functools.partial(only_for_type_checkers, {}), dict[str, int]),
        (only_for_type_checkers, dict[str, int]),
        (wrapper, dict[str, int]),
        (Point, Point),
        (nowhere, type(None)),
    ],
)
def test_what_a_function_returns(fn, kind):
    assert returns(fn) == kind


@pytest.mark.parametrize("fn", [unannotated, len, lambda: 1, functools.partial(unannotated)])
def test_without_an_annotation_it_is_refused_before_it_runs(fn):
    with pytest.raises(TypeError, match="needs a return annotation"):
        returns(fn)


def test_an_annotation_that_is_not_there_at_run_time_is_named():
    with pytest.raises(TypeError, match=r"unknown cannot be evaluated at run time.*Nowhere"):
        returns(unknown)
