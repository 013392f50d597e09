"""Seeded schedules: the same seed repeats an interleaving, and trio is left as it was."""

import random
from collections.abc import Callable

import pytest
import trio
import trio._core._run as trios_run

from otp import Backoff, Supervisor, SupervisorDecided, child, open_supervisor
from otp.testing import capture_events, run_virtual, seeded_schedules
from tests.otp.actors import Boom

flag = "_ALLOW_DETERMINISTIC_SCHEDULING"


async def interleave(tasks=6, steps=6) -> str:
    """Who ran when."""
    order: list[str] = []

    async def run(name):
        for step in range(steps):
            order.append(name)
            if step % 3 == 2:
                await trio.sleep(1)  # all are woken at the same time, by the clock
            else:
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for name in "abcdefghij"[:tasks]:
            nursery.start_soon(run, name)
    return "".join(order)


def test_trio_still_has_the_two_names_that_schedules_need():
    """If this fails trio has moved them: see what it does now, and change `_Lots` in otp/testing/_schedules.py."""
    assert isinstance(trios_run._r, random.Random)
    assert isinstance(getattr(trios_run, flag), bool)
    source = trios_run.unrolled_run.__code__
    assert {flag, "_r", "shuffle", "_counter"} <= set(source.co_names) | {
        name for const in source.co_consts if hasattr(const, "co_names") for name in const.co_names
    }, "the scheduler does not use them as it did"


@pytest.mark.parametrize("name", ["_r", flag])
def test_when_they_have_moved_schedules_say_so(monkeypatch, name):
    monkeypatch.delattr(trios_run, name)
    with pytest.raises(RuntimeError, match=r"trio \S+ has no trio\._core\._run\._r and"):
        run_virtual(trio.sleep, 1, schedule=1)


@pytest.mark.parametrize("before", [True, False])  # with Hypothesis and without it
def test_the_same_seed_gives_the_same_interleaving_and_others_give_others(monkeypatch, before):
    monkeypatch.setattr(trios_run, flag, before)
    once = [run_virtual(interleave, schedule=seed) for seed in range(10)]
    twice = [run_virtual(interleave, schedule=seed) for seed in reversed(range(10))]
    assert once == twice[::-1]
    assert len(set(once)) == 10


def test_the_jitter_of_restarts_belongs_to_the_schedule():
    async def fails():
        await trio.lowlevel.checkpoint()
        raise Boom

    async def delays():
        app = Supervisor([child(fails)], backoff=Backoff(jitter=1.0), intensity=1000)
        async with open_supervisor(app, log=False) as supervisor:
            with capture_events(supervisor.runtime) as events:
                await trio.sleep(100)
        return [event.decision.delay for event in events.of(SupervisorDecided)]

    assert run_virtual(delays, schedule=1) == run_virtual(delays, schedule=1)
    assert run_virtual(delays, schedule=1) != run_virtual(delays, schedule=2)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_everything_is_put_back(monkeypatch, before, fails):
    monkeypatch.setattr(trios_run, flag, before)
    states = trios_run._r.getstate(), random.getstate()

    async def body():
        await interleave()
        assert getattr(trios_run, flag)
        random.random()
        if fails:
            raise Boom

    if fails:
        with pytest.raises(Boom):
            run_virtual(body, schedule=1)
    else:
        run_virtual(body, schedule=1)
    assert getattr(trios_run, flag) is before
    assert (trios_run._r.getstate(), random.getstate()) == states


# -- the decorator ---------------------------------------------------------------------------------------


def a_test_with_a_race(seen: list[str]) -> Callable[[], None]:
    """It holds as long as "a" runs before "b", which is so in about half of the schedules."""

    @seeded_schedules(20)
    async def body():
        seen.append(await interleave(tasks=2, steps=1))
        assert seen[-1] == "ab"

    return body


def failing_seed(error: BaseException) -> int:
    (note,) = error.__notes__
    return int(note.split("schedule ")[1].split(".")[0])


def test_a_race_is_found_and_repeated_by_the_seed_in_the_error(monkeypatch):
    seen: list[str] = []
    body = a_test_with_a_race(seen)
    with pytest.raises(AssertionError) as found:
        body()
    assert seen[:-1] == ["ab"] * (len(seen) - 1)
    assert seen[-1] == "ba"
    assert f"OTP_SCHEDULE={failing_seed(found.value)}" in found.value.__notes__[0]

    seen.clear()
    monkeypatch.setenv("OTP_SCHEDULE", str(failing_seed(found.value)))
    for _ in range(5):
        with pytest.raises(AssertionError):
            body()
    assert seen == ["ba"] * 5  # at once, and only that one


def test_a_schedule_can_be_fixed_in_the_test(monkeypatch):
    monkeypatch.setenv("OTP_SCHEDULE", "3")
    seen = []

    @seeded_schedules(schedule=7)
    async def body():
        seen.append(await interleave())

    body()
    assert seen == [run_virtual(interleave, schedule=7)]


runs: list[str] = []


@seeded_schedules(4)
async def test_fixtures_reach_the_body(tmp_path, request):
    assert tmp_path.is_dir()
    runs.append(request.node.name)
    assert trio.current_time() < 1


def test_it_ran_that_often():
    assert runs in (["test_fixtures_reach_the_body"] * 4, [])  # none if this was run alone


@pytest.mark.parametrize("bad", ["x", "-1", ""])
def test_a_bad_variable_is_refused(monkeypatch, bad):
    monkeypatch.setenv("OTP_SCHEDULE", bad)
    with pytest.raises(ValueError, match=f"OTP_SCHEDULE must be the number of a schedule, not '{bad}'"):
        a_test_with_a_race([])()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="count must be a whole number >= 1, not 0"):
        seeded_schedules(0)
    with pytest.raises(ValueError, match="schedule must be a whole number >= 0, not -1"):
        seeded_schedules(schedule=-1)
    with pytest.raises(ValueError, match=r"schedule must be a whole number >= 0, not 1\.5"):
        run_virtual(interleave, schedule=1.5)  # type: ignore[arg-type]
