"""The checkpointed actor with a durable name: a job that was accepted is done, by whoever leads."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from checkpoints import Checkpoints, Inbox, NameLeases
from otp import NotAlive, child
from otp.engines import MemoryEngine, MemoryStore
from otp.testing import no_task_left, settle
from patterns import NamedCheckpointedActor, Resume, Resumed, Start, SteppedDown, StepSaved, StepStarted, TookOver
from tests.patterns.support import TASK, Task, acquired, pod, until


class Nightly(NamedCheckpointedActor[Task, str]):
    def __init__(self, checkpoints, at_step):
        super().__init__(checkpoints, "nightly", Task)
        self._at_step = at_step

    async def run(self, job, steps):
        done = job.name
        for name in ("a", "b"):

            async def step(done: str, name: str = name) -> str:
                await self._at_step(name)
                return f"{done}-{name}"

            done = await steps(name, step, done)
        return done

    async def finish(self, job, result, tx):
        await Inbox(tx.engine, "results", [TASK]).post(Task(result), tx=tx)


def nightly(at_step, kind=Nightly, **options):
    return lambda engine: [child(lambda: kind(Checkpoints(engine), at_step), id="nightly", **options)]


async def nothing(name):
    pass


async def results(engine):
    async with MemoryEngine(store=engine.store) as other:
        names = []
        lease = await acquired(NameLeases(other), "results")
        reader = await Inbox(other, "results", [TASK]).open(lease)
        while entry := await reader.next():
            names.append(entry.payload.name)
            await reader.mark(entry)
        await NameLeases(other).release(lease)
        return names


async def leading(pod_):
    await until(lambda: pod_.events.of(TookOver))
    await settle()


async def test_an_accepted_job_is_done_and_then_it_takes_another(autojump_clock):
    async with no_task_left(), pod(nightly(nothing)) as here:
        await leading(here)
        for number in range(3):
            assert await here.ref("nightly").call(Start(Task(str(number)))) is True
            await settle()
        assert await results(here.engine) == ["0-a-b", "1-a-b", "2-a-b"]


async def test_of_two_calls_at_once_one_is_accepted_and_neither_lost_silently(autojump_clock):
    async with pod(nightly(nothing)) as here:
        await leading(here)
        answers = {}

        async def call(name):
            answers[name] = await here.ref("nightly").call(Start(Task(name)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "x")
            nursery.start_soon(call, "y")
        await until(lambda: len(here.events.of(StepSaved)) == 2)
        await settle()
        assert sorted(answers.values()) == [False, True]
        (accepted,) = [name for name, answer in answers.items() if answer]
        assert await results(here.engine) == [f"{accepted}-a-b"]


async def test_start_messages_are_done_one_after_the_other(autojump_clock):
    async with pod(nightly(nothing)) as here:
        await leading(here)
        for name in ("x", "y", "z"):
            here.ref("nightly").send(Start(Task(name)))
        await until(lambda: len(here.events.of(StepSaved)) == 6)
        await settle()
        assert await results(here.engine) == ["x-a-b", "y-a-b", "z-a-b"]
        assert here.restarts == 0


async def test_a_start_message_behind_an_accepted_call_keeps_both(autojump_clock):
    async with pod(nightly(nothing)) as here:
        await leading(here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.ref("nightly").call, Start(Task("x")))
            await settle_once()
            here.ref("nightly").send(Start(Task("y")))
        await until(lambda: len(here.events.of(StepSaved)) == 4)
        await settle()
        assert await results(here.engine) == ["x-a-b", "y-a-b"]
        assert here.restarts == 0


async def settle_once():
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("end", ["crash", "lost"])
async def test_after_an_interruption_it_goes_on_from_the_last_step(autojump_clock, end):
    interrupted: list[Any] = []

    async def at_step(name):
        if name == "b" and not interrupted:
            interrupted.append(1)
            if end == "crash":
                raise ValueError("boom")
            here.engine.down = True
            await trio.sleep_forever()

    async with pod(nightly(at_step), lease=6.0) as here:
        await leading(here)
        assert await here.ref("nightly").call(Start(Task("x")))
        await until(lambda: len(here.events.of(TookOver)) == 2 or here.engine.down)
        if here.engine.down:
            await until(lambda: here.events.of(SteppedDown))
            here.engine.down = False
        await until(lambda: len(here.events.of(StepSaved)) == 2)
        await settle()
        assert [event.step for event in here.events.of(StepStarted)] == ["a", "b", "b"]
        assert here.events.one(Resumed).last == "a"
        assert await results(here.engine) == ["x-a-b"]
        assert here.restarts == (1 if end == "crash" else 0)


async def test_accepted_and_killed_before_the_first_step_it_is_done_all_the_same(autojump_clock):
    store = MemoryStore()

    class Stuck(Nightly):
        async def run(self, job, steps):
            await trio.sleep_forever()

    async with pod(nightly(nothing, Stuck), store=store, lease=6.0) as old:
        await leading(old)
        assert await old.ref("nightly").call(Start(Task("x")))
        old.engine.down = True
        async with pod(nightly(nothing), store=store, lease=6.0) as new:
            await until(lambda: len(new.events.of(StepSaved)) == 2)
            await settle()
            assert await results(new.engine) == ["x-a-b"]
            old.engine.down = False


async def test_a_drain_takes_it_back_at_the_next_boundary_and_another_pod_goes_on(autojump_clock):
    store = MemoryStore()
    gate = trio.Event()

    async def at_step(name):
        if name == "a":
            await gate.wait()

    async with pod(nightly(at_step), store=store) as old:
        await leading(old)
        await old.ref("nightly").call(Start(Task("x")))
        async with pod(nightly(at_step), store=store) as new:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(old.drain, 60.0)
                await trio.sleep(20)
                assert not new.events.of(TookOver)
                gate.set()
            await until(lambda: len(new.events.of(StepSaved)) == 1)
            await settle()
            assert [event.step for event in old.events.of(StepStarted)] == ["a"]
            assert [event.step for event in new.events.of(StepStarted)] == ["b"]
            assert await results(new.engine) == ["x-a-b"]
            assert old.restarts == 0


@pytest.mark.parametrize("how", ["drain", "stop"])
async def test_idle_it_steps_down_at_once(autojump_clock, how):
    async with no_task_left(), pod(nightly(nothing)) as here:
        await leading(here)
        begun = trio.current_time()
        if how == "drain":
            assert await here.drain(60.0) == []
        else:
            await here.supervisor.terminate_child("nightly")
        assert trio.current_time() == begun
        assert here.events.one(SteppedDown).reason == "stopped"
        assert here.restarts == 0


async def test_with_messages_it_begins_at_accepted(autojump_clock):
    log = []

    class Messages(Nightly):
        async def handle_message(self, message):
            match message:
                case Resume("accepted"):
                    log.append(self.job.name)
                    await self.checkpoint.save("one", "1")
                    self.send_self(Resume("one"))
                case Resume("one"):
                    async with self.commit():
                        log.append("done")
                    self.committed()

    async with pod(nightly(nothing, Messages)) as here:
        await leading(here)
        for name in ("x", "y"):
            assert await here.ref("nightly").call(Start(Task(name)))
            await settle()
        assert log == ["x", "done", "y", "done"]


@pytest.mark.parametrize("how", ["call", "send"])
async def test_anything_else_is_a_crash(autojump_clock, how):
    async with pod(nightly(nothing)) as here:
        await leading(here)
        if how == "send":
            here.ref("nightly").send("hello")
        else:
            with pytest.raises(NotAlive) as caught:
                await here.ref("nightly").call("hello")
            assert "takes Start calls, not 'hello'" in str(caught.value.__cause__)
        await until(lambda: len(here.events.of(TookOver)) == 2)
        assert here.restarts == 1


def test_checkpoints_are_needed():
    with pytest.raises(TypeError, match="checkpoints must be a Checkpoints"):
        Nightly(MemoryEngine(), nothing)
