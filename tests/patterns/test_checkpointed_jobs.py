"""Checkpointed jobs: each goes on from its last step, wherever it comes up, and ends in one transaction."""

from __future__ import annotations

import sqlite3
from typing import Any, ClassVar

import pytest
import trio

from checkpoints import Checkpoints, Inbox
from otp import Backoff, Shutdown, WorkerProcesses, child
from otp.engines import MemoryEngine, MemoryStore, SqliteEngine
from otp.testing import no_task_left, settle
from patterns import (
    CheckpointedActor,
    CheckpointedJobs,
    JobDied,
    JobDone,
    JobLost,
    JobReleased,
    JobRetried,
    JobStarted,
    Resume,
    Resumed,
    Start,
    StepSaved,
    StepStarted,
)
from tests.patterns.support import TASK, FlakyEngine, Task, pod, tasks, until

SOON = Backoff(initial=0.5, cap=0.5, jitter=0.0)


def jobs(actor, *, processes=None, shutdown=5.0, **options):
    def children(engine):
        def make():
            return CheckpointedJobs(
                tasks(engine), Checkpoints(engine), actor, processes=processes, backoff=SOON, **options
            )

        before = [] if processes is None else [child(lambda: processes, id="cpu")]
        return [*before, child(make, id="jobs", shutdown=shutdown)]

    return children


async def nothing(name):
    pass


def three_steps(at_step):
    """An actor with the steps a, b and c; before each, `at_step(name)` is awaited in it."""

    class Three(CheckpointedActor[Task, str]):
        async def run(self, job, steps):
            done = job.name

            async def step(name: str, done: str) -> str:
                await at_step(name)
                return f"{done}-{name}"

            for name in ("a", "b", "c"):
                done = await steps(name, step, name, done)
            return done

        async def finish(self, job, result, tx):
            if tx is not None:
                await Inbox(tx.engine, "results", [TASK]).post(Task(result), id=job.name, tx=tx)

    return Three


async def results(engine):
    inbox = Inbox(engine, "results", [TASK])
    return (await inbox.statistics()).posted


async def test_a_job_runs_step_by_step_and_ends_in_one_transaction(autojump_clock):
    async def at_step(name):
        pass

    async with no_task_left(), pod(jobs(three_steps(at_step))) as here:
        put = await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobDone))
        assert [event.step for event in here.events.of(StepSaved)] == ["a", "b", "c"]
        assert here.events.of(StepStarted)[0].path == f"app/jobs/{put.job_id}"
        assert not here.events.of(Resumed)
        assert await results(here.engine) == 1
        view = await Checkpoints(here.engine).peek(f"tasks/{put.job_id}")
        assert view is not None
        assert view.closed
        assert view.steps == ()


async def test_after_a_crash_it_goes_on_from_the_last_step(autojump_clock):
    crashed: list[Any] = []

    async def at_step(name):
        if name == "c" and not crashed:
            crashed.append(name)
            raise ValueError("boom")

    async with pod(jobs(three_steps(at_step))) as here:
        await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobDone))
        assert [event.step for event in here.events.of(StepStarted)] == ["a", "b", "c", "c"]
        resumed = here.events.one(Resumed)
        assert (resumed.steps, resumed.last, resumed.epoch) == (2, "b", 2)
        here.events.one(JobRetried)
        assert here.restarts == 0


async def test_a_crash_in_finish_undoes_the_end_and_repeats_no_step(autojump_clock):
    three: Any = three_steps(nothing)

    class Once(three):  # type: ignore[misc]
        async def finish(self, job, result, tx):
            await super().finish(job, result, tx)
            if not crashed:
                crashed.append(1)
                raise ValueError("boom")

    crashed = []
    async with pod(jobs(Once)) as here:
        await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobDone))
        assert len(here.events.of(StepStarted)) == 3
        assert await results(here.engine) == 1


async def test_a_drain_takes_it_back_at_the_next_boundary_and_another_pod_goes_on(autojump_clock):
    store = MemoryStore()
    gate = trio.Event()

    async def at_step(name):
        if name == "b":
            await gate.wait()

    async with pod(jobs(three_steps(at_step)), store=store) as old:
        await tasks(old.engine).put(Task("x"))
        await until(lambda: len(old.events.of(StepStarted)) == 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.drain, 60.0)
            await trio.sleep(20)
            begun = trio.current_time()
            gate.set()
        assert trio.current_time() == begun
        assert old.events.one(JobReleased).reason == "a step boundary was reached while draining"
        assert [event.step for event in old.events.of(StepSaved)] == ["a", "b"]
        async with pod(jobs(three_steps(at_step)), store=store) as new:
            await until(lambda: new.events.of(JobDone))
            assert [event.step for event in new.events.of(StepStarted)] == ["c"]
            assert new.events.one(JobStarted).attempt == 1
            assert new.events.one(Resumed).steps == 2
        assert old.restarts == 0


async def test_fault_07_a_step_longer_than_the_deadline_is_cancelled_and_its_checkpoint_kept(autojump_clock):
    store = MemoryStore()
    long = [True]

    async def at_step(name):
        if name == "b" and long:
            await trio.sleep(60)

    async with pod(jobs(three_steps(at_step)), store=store) as old:
        await tasks(old.engine).put(Task("x"))
        await until(lambda: len(old.events.of(StepStarted)) == 2)
        begun = trio.current_time()
        await old.drain(5.0)
        assert trio.current_time() - begun <= 5.0
        old.events.one(JobReleased)
        long.clear()
        async with pod(jobs(three_steps(at_step)), store=store) as new:
            await until(lambda: new.events.of(JobDone))
            assert [event.step for event in new.events.of(StepStarted)] == ["b", "c"]
            assert new.events.one(JobDone).attempt == 1


async def test_a_job_that_dies_keeps_its_checkpoint_for_the_requeue(autojump_clock):
    broken = [True]

    async def at_step(name):
        if name == "b" and broken:
            raise ValueError("boom")

    def children(engine):
        queue = tasks(engine, max_attempts=1)
        return [child(lambda: CheckpointedJobs(queue, Checkpoints(engine), three_steps(at_step)), id="jobs")]

    async with pod(children) as here:
        put = await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobDied))
        broken.clear()
        await tasks(here.engine).dead.requeue(put.job_id)
        await until(lambda: here.events.of(JobDone))
        assert [event.step for event in here.events.of(StepStarted)] == ["a", "b", "b", "c"]


async def test_a_lost_lease_ends_it_and_the_other_goes_on(autojump_clock):
    store = MemoryStore()

    async def second(name):
        pass

    async def at_first(name):
        if name == "b":
            here.engine.down = True
            await trio.sleep_forever()

    async with pod(jobs(three_steps(at_first)), store=store, lease=6.0) as here:
        await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobLost))
        async with pod(jobs(three_steps(second)), store=store, lease=6.0) as other:
            await until(lambda: other.events.of(JobDone))
            assert [event.step for event in other.events.of(StepStarted)] == ["b", "c"]
            assert other.events.one(JobDone).attempt == 2
            assert await results(other.engine) == 1
        here.engine.down = False
        assert here.restarts == 0


async def test_an_outage_at_a_save_costs_no_attempt(autojump_clock):
    async def at_step(name):
        if name == "b" and not outages:
            outages.append(1)
            here.engine.down = True

    outages: list[Any] = []
    async with pod(jobs(three_steps(at_step)), lease=60.0) as here:
        await tasks(here.engine).put(Task("x"))
        await until(lambda: outages)
        await trio.sleep(3)
        here.engine.down = False
        await until(lambda: here.events.of(JobDone))
        assert here.events.one(JobDone).attempt == 1
        assert [event.step for event in here.events.of(StepStarted)] == ["a", "b", "b", "c"]


async def test_on_two_engines_the_order_is_effect_ack_clear(autojump_clock):
    order = []

    class Watched(FlakyEngine):
        async def write(self, fn, *, tx=None):
            assert tx is None
            order.append(fn.__qualname__)
            return await super().write(fn)

    class Plain(CheckpointedActor[Task, int]):
        async def run(self, job, steps):
            return 1

        async def finish(self, job, result, tx):
            assert tx is None
            order.append("effect")

    def children(engine):
        other = Watched(store=MemoryStore())
        checkpoints = Checkpoints(other)
        return [
            child(lambda: other, id="checkpoints"),
            child(lambda: CheckpointedJobs(tasks(engine), checkpoints, Plain), id="jobs"),
        ]

    async with pod(children, make=Watched) as here:
        await tasks(here.engine).put(Task("x"))
        order.clear()
        await until(lambda: here.events.of(JobDone))
        await settle()
    at = order.index("effect")
    assert at > 0
    assert "MemoryQueue" in order[at + 1]
    assert "Checkpoints.clear" in order[at + 2]


async def test_a_checkpoint_store_that_is_away_is_no_failure_of_the_job(autojump_clock):
    """It is not the queue's store, so nothing but the job's own pause slows the loop down."""

    def children(engine):
        checkpoints = Checkpoints(other)
        return [
            child(lambda: other, id="checkpoints"),
            child(lambda: CheckpointedJobs(tasks(engine), checkpoints, three_steps(nothing)), id="jobs"),
        ]

    async def nothing(name):
        pass

    other = FlakyEngine(store=MemoryStore())
    async with pod(children) as here:
        await settle()
        other.down = True
        await tasks(here.engine).put(Task("x"))
        await trio.sleep(30)
        assert 5 < len(here.events.of(JobReleased)) < 30
        other.down = False
        await until(lambda: here.events.of(JobDone))
        assert here.events.one(JobDone).attempt == 1


@pytest.mark.parametrize(("ending", "event"), [("shutdown", JobReleased), ("normal", JobDone)])
async def test_how_an_actor_ends_without_a_commit(autojump_clock, ending, event):
    class Ending(CheckpointedActor[Task, None]):
        async def handle_message(self, message):
            if ending == "shutdown":
                ends.append(1)
                if len(ends) < 3:
                    self.stop(Shutdown("not now"))
                    return
            self.stop()

    ends = []
    async with pod(jobs(Ending)) as here:
        await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobDone))
        assert here.events.of(event)
        assert here.events.one(JobDone).attempt == 1


# -- the face with messages, as the mission has it


class Analytics(CheckpointedActor[Task, str]):
    """Step one and step two, with explicit messages."""

    log: ClassVar[list[str]]

    async def init(self):
        checkpoint = self.checkpoint.latest()
        if checkpoint is not None:
            # Resume from where we left off by sending ourselves a message.
            self.send_self(Resume(checkpoint.step))
        else:
            self.send_self(Start(self.job))

    async def handle_message(self, message):
        match message:
            case Start(job):
                await self.checkpoint.save("accepted", job.name)
                self.send_self(Resume("accepted"))
            case Resume("accepted"):
                one = await self.step_one(self.job.name)
                await self.checkpoint.save("one", one)
                self.send_self(Resume("one"))
            case Resume("one"):
                two = await self.step_two(self.checkpoint.load("one", str))
                async with self.commit() as tx:
                    assert tx is not None
                    await Inbox(tx.engine, "results", [TASK]).post(Task(two), tx=tx)
                self.committed()

    async def step_one(self, text: str) -> str:
        self.log.append("one")
        return text + "-one"

    async def step_two(self, text: str) -> str:
        self.log.append("two")
        return text + "-two"


async def test_messages_a_crash_resumes_at_the_step(autojump_clock):
    class Crashing(Analytics):
        log: ClassVar[list[str]] = []

        async def step_two(self, text):
            if "crash" not in self.log:
                self.log.append("crash")
                raise ValueError("boom")
            return await super().step_two(text)

    async with pod(jobs(Crashing)) as here:
        await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobDone))
        assert Crashing.log == ["one", "crash", "two"]
        assert here.events.one(JobDone).attempt == 2
        assert await results(here.engine) == 1


async def test_messages_a_drain_takes_it_back_between_two(autojump_clock):
    store = MemoryStore()
    gate = trio.Event()

    class Slow(Analytics):
        log: ClassVar[list[str]] = []

        async def step_one(self, text):
            await gate.wait()
            return await super().step_one(text)

    async with pod(jobs(Slow), store=store) as old:
        await tasks(old.engine).put(Task("x"))
        await until(lambda: old.events.of(JobStarted))
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(old.drain, 60.0)
            await trio.sleep(20)
            gate.set()
        assert Slow.log == ["one"]
        old.events.one(JobReleased)
        async with pod(jobs(Slow), store=store) as new:
            await until(lambda: new.events.of(JobDone))
        assert Slow.log == ["one", "two"]
        assert new.events.one(JobDone).attempt == 1


# -- worker processes, and SQLite


def burn(seconds: float) -> float:
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


class Burning(CheckpointedActor[Task, float]):
    async def run(self, job, steps):
        await steps.process("short", burn, 0.0)
        return await steps.process("long", burn, 60.0 if job.name == "long" else 0.01)


async def test_cancelled_its_worker_process_is_killed_and_no_attempt_charged(tmp_path):
    engine = SqliteEngine(tmp_path / "jobs.db", synchronous="normal")
    cpu = WorkerProcesses(1)
    async with pod(jobs(Burning, processes=cpu), make=lambda **_: engine) as here:
        queue = tasks(engine)
        await queue.put(Task("long"))
        await until(lambda: len(here.events.of(StepStarted)) == 2)
        with trio.fail_after(5):
            await here.drain(0.5)
            await until(lambda: cpu.statistics().busy == 0)
        here.events.one(JobReleased)
        (job,) = await queue.claim(1)
        assert (job.attempt, job.releases) == (1, 1)
        await queue.release(job)


async def test_worker_processes_that_close_first_charge_no_attempt(tmp_path):
    """The wrong order of children: at the stop the processes end before those who use them."""
    engine = SqliteEngine(tmp_path / "jobs.db", synchronous="normal")
    cpu = WorkerProcesses(1)

    def children(engine):
        make = lambda: CheckpointedJobs(tasks(engine), Checkpoints(engine), Burning, processes=cpu)  # noqa: E731
        return [child(make, id="jobs"), child(lambda: cpu, id="cpu")]

    async with pod(children, make=lambda **_: engine) as here:
        await tasks(engine).put(Task("long"))
        await until(lambda: len(here.events.of(StepStarted)) == 2)
        await here.supervisor.terminate_child("cpu")
        await until(lambda: here.events.of(JobReleased))
        assert not here.events.of(JobRetried)
        await here.supervisor.terminate_child("jobs")


async def test_without_processes_a_process_step_says_so(autojump_clock):
    async with pod(jobs(Burning)) as here:
        await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobRetried))
        assert "needs a worker process: give app/jobs/" in here.events.of(JobRetried)[0].error


async def test_in_sqlite_effect_acknowledgement_and_checkpoint_are_one_transaction(tmp_path):
    path = tmp_path / "jobs.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE result (name TEXT)")

    class Stored(CheckpointedActor[Task, str]):
        async def run(self, job, steps):
            return await steps("only", only)

        async def finish(self, job, result, tx):
            await tx.execute("INSERT INTO result VALUES (?)", result)
            if not tries:
                tries.append(1)
                raise ValueError("boom")

    def only() -> str:
        return "result"

    tries = []
    engine = SqliteEngine(path, synchronous="normal")
    async with pod(jobs(Stored), make=lambda **_: engine) as here:
        await tasks(engine).put(Task("x"))
        await until(lambda: here.events.of(JobDone))
        commits = engine.statistics().transactions
        assert commits == 2
    assert connection.execute("SELECT * FROM result").fetchall() == [("result",)]
    assert connection.execute("SELECT count(*) FROM hf_checkpoint").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM hf_job").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("x", Burning), "checkpoints must be a Checkpoints, not 'x'"), ((None, 3), "actor must be a class")],
)
def test_wrong_arguments_are_refused(arguments, text):
    engine = MemoryEngine()
    checkpoints, actor = arguments
    with pytest.raises(TypeError, match=text):
        CheckpointedJobs(tasks(engine), checkpoints or Checkpoints(engine), actor)


async def test_what_is_no_checkpointed_actor_fails_the_job(autojump_clock):
    async with pod(jobs(object)) as here:
        await tasks(here.engine).put(Task("x"))
        await until(lambda: here.events.of(JobRetried))
        assert "must be a CheckpointedActor" in here.events.of(JobRetried)[0].error
