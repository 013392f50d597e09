"""The queue consumer when it has to stop: nothing lost, nothing repeated, no attempt charged, all in time."""

from __future__ import annotations

import pytest
import trio

from otp import child
from otp.engines import MemoryStore
from otp.testing import no_task_left, settle
from patterns import HandlerStuck, JobDone, JobLost, JobReleased, JobStarted
from queues import Retry
from tests.patterns.support import Consumer, FlakyEngine, Task, pod, shielded_sleep, tasks, until


def consumer(work, *, shutdown=5.0, **options):
    return lambda engine: [
        child(lambda: Consumer(tasks(engine), work, **options), id="consumer", shutdown=shutdown),
    ]


async def test_a_handler_may_finish_and_what_none_has_begun_goes_back_at_once(autojump_clock):
    gate = trio.Event()

    async def work(job):
        await gate.wait()

    async with pod(consumer(work, concurrency=2)) as here:
        queue = tasks(here.engine)
        await queue.put_many([Task(str(n)) for n in range(4)])
        await until(lambda: len(here.events.of(JobStarted)) == 2)
        async with trio.open_nursery() as nursery:
            begun = trio.current_time()
            nursery.start_soon(here.drain, 20.0)
            await settle()
            assert (await queue.statistics()).ready == 2
            await trio.sleep(10)
            gate.set()
        assert trio.current_time() - begun < 10.5
        assert len(here.events.of(JobDone)) == 2
        assert (await queue.statistics()).ready == 2


async def test_after_a_drain_it_waits_for_its_stop_and_is_not_restarted(autojump_clock):
    """A permanent child that ends is restarted: again and again, while another child still drains."""
    gate = trio.Event()

    async def slow(job):
        await gate.wait()

    def children(engine):
        return [
            child(lambda: Consumer(tasks(engine, "fast"), slow), id="fast"),
            child(lambda: Consumer(tasks(engine), slow), id="slow"),
        ]

    async with no_task_left(), pod(children) as here:
        await tasks(here.engine).put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.drain, 20.0)
            await trio.sleep(10)
            assert here.restarts == 0
            assert len(here.supervisor.which_children()) == 3
            gate.set()
        assert here.restarts == 0


async def test_at_the_end_of_the_drain_the_handler_is_cancelled_and_its_job_given_back(autojump_clock):
    async def work(job):
        await trio.sleep(60)

    async with pod(consumer(work)) as here:
        queue = tasks(here.engine)
        await queue.put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        begun = trio.current_time()
        assert await here.drain(10.0) == ["app/consumer"]  # `run` tells it by its exit code
        assert trio.current_time() - begun == 10.0
        assert here.events.one(JobReleased).reason == "the time to finish it was over"
        (job,) = await queue.claim(1)
        assert (job.attempt, job.releases) == (1, 1)


@pytest.mark.parametrize("drain", [True, False])
async def test_fault_38_a_handler_that_shields_for_ever_keeps_nothing(autojump_clock, drain):
    async def work(job):
        await shielded_sleep(1000)

    async with pod(consumer(work), lease=60.0) as here:
        queue = tasks(here.engine)
        await queue.put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        begun = trio.current_time()
        if drain:
            assert await here.drain(10.0) == ["app/consumer"]
            assert trio.current_time() - begun <= 10.0
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(here.supervisor.terminate_child, "consumer")
                await until(lambda: here.events.of(JobReleased))
                assert trio.current_time() - begun <= 5.0
                nursery.cancel_scope.cancel()
        here.events.one(HandlerStuck)
        (job,) = await queue.claim(1)  # in the store it is anybody's
        assert (job.attempt, job.releases) == (1, 1)
        await queue.ack(job)


async def test_stopped_without_a_drain_the_shutdown_time_counts(autojump_clock):
    gate = trio.Event()

    async def work(job):
        await gate.wait()

    async with pod(consumer(work, shutdown=8.0)) as here:
        queue = tasks(here.engine)
        await queue.put_many([Task("a"), Task("b")])
        await until(lambda: here.events.of(JobStarted))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.supervisor.terminate_child, "consumer")
            await trio.sleep(7.0)
            gate.set()
        here.events.one(JobDone)
        assert (await queue.statistics()).ready == 1


async def test_a_drain_that_is_cut_short_hands_back_at_once(autojump_clock):
    """What a second signal does: the drain's deadline is now, and the ordered stop begins."""

    async def work(job):
        await trio.sleep(60)

    async with pod(consumer(work)) as here:
        await tasks(here.engine).put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.drain, 100.0)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        begun = trio.current_time()
        await here.drain(0.0)
        await here.supervisor.terminate_child("consumer")
        assert trio.current_time() - begun < 0.1
        here.events.one(JobReleased)


async def test_fault_08_a_second_signal_has_all_given_back_at_once_whatever_stands_in_the_way(autojump_clock):
    """The ordered stop may never come to a consumer, behind a child that will not stop: its turn is not waited for."""

    async def work(job):
        await trio.sleep_forever()

    def children(engine):
        return [
            child(lambda: Consumer(tasks(engine), work), id="consumer"),
            child(lambda: shielded_sleep(30), id="stuck"),
        ]

    async with pod(children) as here:
        queue = tasks(here.engine)
        await queue.put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.drain, 20.0)
            await trio.sleep(2)
            here.runtime.hurry(trio.current_time() + 0.5, trio.current_time() + 5)
            await until(lambda: here.events.of(JobReleased))
            assert trio.current_time() - begun < 3
            assert (await queue.statistics()).ready == 1


@pytest.mark.parametrize("how", ["drain", "brutal"])
async def test_the_result_of_a_claim_that_comes_while_the_intake_closes_goes_back(autojump_clock, how):
    """The store is at it when the drain begins; by its answer a job is ours: it must not be lost, nor started."""
    in_claim = trio.Event()

    class Slow(FlakyEngine):
        async def _write(self, fn):
            result = await super()._write(fn)
            if armed and (jobs := getattr(result, "jobs", None)):
                assert jobs
                armed.clear()
                in_claim.set()
                await shielded_sleep(1.0)  # the answer is under way: begun, so it wins over the cancellation
            return result

    armed = [True]

    async def work(job):
        raise AssertionError("it must not be started")

    store = MemoryStore()
    shutdown = "brutal" if how == "brutal" else 5.0
    async with pod(consumer(work, shutdown=shutdown), make=Slow, store=store, lease=60.0) as here:
        queue = tasks(here.engine)
        await queue.put(Task("a"))
        await in_claim.wait()
        if how == "drain":
            await here.drain(10.0)
        else:
            await here.supervisor.terminate_child("consumer")
        assert not here.events.of(JobStarted)
        assert len(here.events.of(JobReleased)) == 1
        (job,) = await queue.claim(1)
        assert job.attempt == 1
        assert here.held == 1  # that of the claim just made


async def test_the_result_of_a_claim_that_comes_while_the_consumer_crashes_goes_back(autojump_clock):
    in_claim = trio.Event()
    crash = trio.Event()

    class Slow(FlakyEngine):
        async def _write(self, fn):
            result = await super()._write(fn)
            if any(job.envelope.body == b'{"name":"b"}' for job in getattr(result, "jobs", ())) and not crash.is_set():
                in_claim.set()
                await shielded_sleep(1.0)
            return result

    async def work(job):
        if job.payload.name == "a" and not crash.is_set():
            await in_claim.wait()
            crash.set()
            raise ValueError("then its outcome cannot be stored, by a defect")

    def children(engine):
        queue = tasks(engine)
        settle_jobs = queue.settle

        async def failing(outcomes, **options):
            outcomes = list(outcomes)
            if any(isinstance(outcome, Retry) for _, outcome in outcomes):
                raise RuntimeError("a defect")
            return await settle_jobs(outcomes, **options)

        queue.settle = failing  # type: ignore[method-assign]
        return [child(lambda: Consumer(queue, work, concurrency=2), id="consumer")]

    async with pod(children, make=Slow, lease=600.0) as here:
        queue = tasks(here.engine)
        await queue.put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        await queue.put(Task("b"))
        await until(lambda: here.events.of(JobReleased))
        assert here.events.one(JobReleased).reason == "the consumer has ended"
        await until(lambda: here.events.of(JobDone))  # by the next incarnation, at once
        assert here.events.one(JobDone).attempt == 1


async def test_an_outage_at_the_end_of_a_drain_costs_no_more_than_the_lease(autojump_clock):
    """Nothing can be given back, but nothing is renewed either, and the stop takes its time and no more."""

    async def work(job):
        here.engine.down = True
        await trio.sleep(60)

    store = MemoryStore()
    async with pod(consumer(work), store=store, lease=30.0) as here:
        await tasks(here.engine).put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        begun = trio.current_time()
        await here.drain(5.0)
        await here.supervisor.terminate_child("consumer")
        assert trio.current_time() - begun < 11.0
        here.engine.down = False
        assert here.held == 0
        await trio.sleep(30)
        (job,) = await tasks(here.engine).claim(1)
        assert job.payload == Task("a")


async def test_an_outage_while_jobs_wait_for_a_handler_is_told(autojump_clock):
    gate = trio.Event()

    class Closing(FlakyEngine):
        pass

    async def work(job):
        await gate.wait()

    async with pod(consumer(work, concurrency=1), make=Closing, lease=30.0) as here:
        await tasks(here.engine).put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        here.engine.down = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.drain, 20.0)
            await trio.sleep(1)
            gate.set()  # it is done, but that cannot be stored yet
            await trio.sleep(5)
            here.engine.down = False
        here.events.one(JobDone)
        assert not here.events.of(JobLost)


async def test_a_second_pod_takes_over_in_an_instant(autojump_clock):
    store = MemoryStore()
    starts = []

    async def work(job):
        starts.append((job.attempt, trio.current_time()))
        await trio.sleep(60 if len(starts) == 1 else 0)

    async with pod(consumer(work), store=store) as old:
        await tasks(old.engine).put(Task("a"))
        await until(lambda: starts)
        async with pod(consumer(work), store=store) as new:
            await old.drain(5.0)
            await until(lambda: new.events.of(JobDone))
            assert new.events.one(JobDone).attempt == 1
            assert starts[1][1] - starts[0][1] < 5.0
