"""The queue consumer: what becomes of a job, in every way that its handler can end."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import pytest
import trio

from otp import Backoff, WorkersClosed, child
from otp.engines import Envelope, LeaseLost, MemoryEngine, MemoryStore, StoreUnavailable, Token, UnknownPayload
from otp.testing import no_task_left, settle
from patterns import (
    HandlerStuck,
    JobDied,
    JobDone,
    JobLost,
    JobReleased,
    JobRetried,
    JobStarted,
    OftenReleased,
    StoreOutage,
)
from queues import Done, NewJob, Reject, Release, Retry, backend_for
from tests.patterns.support import Consumer, Task, empty, pod, shielded_sleep, tasks, until


async def fine(job):
    """Work that always succeeds."""


SOON = Backoff(initial=0.5, cap=0.5, jitter=0.0)


def consumer(work, queues=None, **options):
    """The children of a pod with one consumer; its queue is appended to `queues`."""
    queue_options = {name: options.pop(name) for name in ("max_attempts", "unknown_grace") if name in options}

    def children(engine):
        queue = tasks(engine, **queue_options)
        if queues is not None:
            queues.append(queue)
        return [child(lambda: Consumer(queue, work, backoff=SOON, **options), id="consumer")]

    return children


async def test_done_when_the_handler_returns(autojump_clock):
    seen = []

    async def work(job):
        seen.append((job.payload, job.attempt))

    async with no_task_left(), pod(consumer(work, queues := empty())) as here:
        queue = queues[0]
        await queue.put(Task("a"))
        await until(lambda: here.events.of(JobDone))
        assert seen == [(Task("a"), 1)]
        assert (await queue.statistics()).running == 0
        assert here.events.one(JobStarted).path == "app/consumer"
        assert here.held == 0


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_at_once_than_it_was_told_and_no_more_claimed(autojump_clock, concurrency):
    now = most = 0
    gate = trio.Event()

    async def work(job):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1

    async with pod(consumer(work, queues := empty(), concurrency=concurrency)) as here:
        await queues[0].put_many([Task(str(n)) for n in range(10)])
        await until(lambda: now == concurrency)
        await settle()
        assert (await queues[0].statistics()).running == concurrency
        gate.set()
        await until(lambda: len(here.events.of(JobDone)) == 10)
        assert most == concurrency


async def test_an_exception_means_a_retry_with_backoff_and_counts(autojump_clock):
    starts = []

    async def work(job):
        starts.append((trio.current_time(), job.attempt, job.last_error))
        if job.attempt == 1:
            raise ValueError("boom")

    async with pod(consumer(work, queues := empty())) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))
    (first, _, _), (second, attempt, error) = starts
    assert second - first == pytest.approx(0.5, abs=0.02)
    assert attempt == 2
    assert "ValueError: boom" in error
    retried = here.events.one(JobRetried)
    assert retried.delay == 0.5
    assert "ValueError: boom" in retried.error


async def test_the_last_attempt_goes_to_the_dead_letters(autojump_clock):
    async def work(job):
        raise ValueError("always")

    async with pod(consumer(work, queues := empty(), max_attempts=3)) as here:
        queue = queues[0]
        await queue.put(Task("a"))
        await until(lambda: here.events.of(JobDied))
        (letter,) = await queue.dead.list()
        assert letter.attempts == 3
        assert "always" in letter.error
        assert len(here.events.of(JobRetried)) == 2
        assert "attempt 3 was the last" in here.events.one(JobDied).reason


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Done(), JobDone),
        (Retry(60.0, error="later"), JobRetried),
        (Reject("no good"), JobDied),
        (Release(60.0), JobReleased),
    ],
)
async def test_the_handler_may_return_an_outcome(autojump_clock, outcome, event):
    async def work(job):
        return outcome

    async with pod(consumer(work, queues := empty())) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(event))
        statistics = await queues[0].statistics()
        assert statistics.running == statistics.ready == 0


async def test_any_other_return_value_is_the_handlers_failure(autojump_clock):
    async def work(job):
        return "done!"

    async with pod(consumer(work, queues := empty(), max_attempts=1)) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDied))
        assert "must return None, Done" in here.events.one(JobDied).reason
        assert here.restarts == 0


async def test_a_timeout_counts_as_a_failed_attempt(autojump_clock):
    async def work(job):
        await trio.sleep(10)

    async with pod(consumer(work, queues := empty(), handler_timeout=2.0, max_attempts=2)) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDied))
        assert "took longer than 2 s" in here.events.one(JobRetried).error


async def test_a_handler_that_finishes_in_spite_of_its_timeout_has_done_the_job(autojump_clock):
    async def work(job):
        await shielded_sleep(3)

    async with pod(consumer(work, queues := empty(), handler_timeout=2.0)) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))


# -- commit and acknowledge


def committing(work, queues, made, **options):
    """A consumer whose `work` gets it as its second argument."""

    def children(engine):
        queue = tasks(engine)
        queues.append(queue)

        def make():
            made.append(Consumer(queue, lambda job: work(job, made[-1]), backoff=SOON, **options))
            return made[-1]

        return [child(make, id="consumer")]

    return children


async def test_commit_stores_the_effect_and_the_acknowledgement_together(autojump_clock):
    async def work(job, consumer):
        async with consumer.commit(job) as tx:
            await tasks(consumer.queue.engine, "effects").put(Task("effect"), tx=tx)

    async with pod(committing(work, queues := empty(), [])) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))
        assert (await tasks(here.engine, "effects").statistics()).ready == 1
        assert (await queues[0].statistics()).running == 0
        await settle()
        here.events.one(JobDone)


async def test_an_exception_after_the_commit_changes_nothing_but_is_logged(autojump_clock, caplog):
    async def work(job, consumer):
        async with consumer.commit(job):
            pass
        raise ValueError("afterwards")

    async with pod(committing(work, queues := empty(), [])) as here:
        await queues[0].put(Task("a"))
        with caplog.at_level(logging.ERROR, "patterns"):
            await until(lambda: here.events.of(JobDone))
            await settle()
        assert not here.events.of(JobRetried)
        assert "failed after its job was acknowledged" in caplog.text
        assert (await queues[0].statistics()).ready == 0


async def test_an_exception_within_the_commit_undoes_it(autojump_clock):
    async def work(job, consumer):
        async with consumer.commit(job) as tx:
            await tasks(consumer.queue.engine, "effects").put(Task("effect"), tx=tx)
            if job.attempt == 1:
                raise ValueError("in the middle")

    async with pod(committing(work, queues := empty(), [])) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))
        assert here.events.one(JobDone).attempt == 2
        assert (await tasks(here.engine, "effects").statistics()).ready == 1


async def test_acknowledged_early_it_stays_done_whatever_the_handler_does(autojump_clock):
    async def work(job, consumer):
        await consumer.acknowledge(job)
        raise ValueError("afterwards")

    async with pod(committing(work, queues := empty(), [])) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))
        await settle()
        assert not here.events.of(JobRetried)


# -- what says nothing about the job


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("away"),
        WorkersClosed("closing"),
        UnknownPayload("newer", topic="t", version=9),
        ExceptionGroup("several", [StoreUnavailable("away"), ExceptionGroup("in one", [StoreUnavailable("away")])]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_not_the_jobs_fault_costs_no_attempt(autojump_clock, error):
    async def work(job):
        if job.releases < 3:
            raise error

    async with pod(consumer(work, queues := empty())) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))
        assert here.events.one(JobDone).attempt == 1
        assert [event.releases for event in here.events.of(JobStarted)] == [0, 1, 2, 3]
        assert not here.events.of(JobRetried)


async def test_a_group_with_a_real_error_in_it_counts(autojump_clock):
    async def work(job):
        if job.attempt == 1:
            raise ExceptionGroup("both", [StoreUnavailable("away"), ValueError("boom")])

    async with pod(consumer(work, queues := empty())) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))
        assert here.events.one(JobDone).attempt == 2


async def test_the_loss_of_another_lease_is_an_error_like_any(autojump_clock):
    async def work(job):
        if job.attempt == 1:
            raise LeaseLost(Token(kind="name", key="other", owner="x", epoch=1))

    async with pod(consumer(work, queues := empty())) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))
        assert here.events.one(JobDone).attempt == 2
        assert len(here.events.of(JobRetried)) == 1
        assert not here.events.of(JobLost)


async def test_a_job_that_is_given_back_again_and_again_warns(autojump_clock, caplog):
    async def work(job):
        return None if job.releases >= 5 else Release()

    with caplog.at_level(logging.WARNING, "patterns"):
        async with pod(consumer(work, queues := empty())) as here:
            await queues[0].put(Task("a"))
            await until(lambda: here.events.of(JobDone))
    assert here.events.one(OftenReleased).releases == 5
    assert "given back 5 times" in caplog.text


# -- the lease


async def test_a_lost_lease_cancels_the_handler_and_writes_nothing(autojump_clock):
    store = MemoryStore()
    cancelled = []

    async def work(job):
        if job.attempt > 1:
            return
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(trio.current_time())
            raise

    async with pod(consumer(work, queues := empty()), store=store, lease=6.0) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        here.engine.down = True  # its heartbeat does not get through any more
        begun = trio.current_time()
        await until(lambda: cancelled)
        assert cancelled[0] - begun < 6.0
        async with MemoryEngine(store=store, lease=6.0) as other:
            queue = tasks(other)
            while not (jobs := await queue.claim(1)):
                await queue.wait()
            assert jobs[0].attempt == 2
            assert here.events.one(JobLost).epoch == 1
            here.engine.down = False
            await queue.release(jobs[0])
        await until(lambda: here.events.of(JobDone))
        assert here.restarts == 0


async def test_a_job_that_comes_back_while_its_old_handler_still_cleans_up(autojump_clock):
    """Two handlings of one job in one consumer: each keeps its own books."""
    release = trio.Event()

    async def work(job):
        if job.attempt == 1:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await release.wait()
        else:
            await second.wait()

    second = trio.Event()
    async with pod(consumer(work, queues := empty(), concurrency=2), lease=3.0) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        (lease,) = here.engine._heartbeat._leases.values()
        here.engine._heartbeat.lost(lease.token, "the test says so")  # in the store it now runs out
        await until(lambda: len(here.events.of(JobStarted)) == 2)
        release.set()
        await until(lambda: here.events.of(JobLost))
        second.set()
        await until(lambda: here.events.of(JobDone))
        assert here.events.one(JobDone).attempt == 2
        await queues[0].put(Task("b"))  # nothing has been mixed up
        await until(lambda: len(here.events.of(JobStarted)) == 3)
        assert here.restarts == 0


async def test_fault_22_an_acknowledgement_after_the_lease_was_lost(autojump_clock):
    """The handler shields itself from the loss and goes on; in the store nothing comes of it."""
    store = MemoryStore()

    async def work(job):
        if job.attempt == 1:
            here.engine.down = True
            await shielded_sleep(10)
            here.engine.down = False

    async with MemoryEngine(store=store, lease=60.0) as other:  # noqa: SIM117
        async with pod(consumer(work, queues := empty()), store=store, lease=6.0) as here:
            await queues[0].put(Task("a"))
            await until(lambda: here.events.of(JobStarted))
            while not (jobs := await tasks(other).claim(1)):
                await tasks(other).wait()
            before = await tasks(other).statistics()
            await until(lambda: here.events.of(JobLost))
            assert await tasks(other).statistics() == before
            assert not here.events.of(JobDone)
            await tasks(other).ack(jobs[0])
            assert here.restarts == 0


async def test_fault_19_a_handler_that_always_fails(autojump_clock):
    """Dead after its attempts, with everything that helps to find out why; others flow, and a requeue works."""
    broken = [True]

    async def work(job):
        if job.payload.name == "poison" and broken:
            raise ValueError(f"attempt {job.attempt}")

    async with pod(consumer(work, queues := empty(), max_attempts=3)) as here:
        queue = queues[0]
        await queue.put(Task("poison"), headers={"trace": "t1"})
        await queue.put(Task("good"))
        await until(lambda: here.events.of(JobDied))
        assert len(here.events.of(JobDone)) == 1
        (letter,) = await queue.dead.list()
        assert (letter.attempts, letter.envelope.headers["trace"]) == (3, "t1")
        assert "attempt 3" in letter.error
        assert [failure.attempt for failure in letter.history] == [1, 2, 3]
        broken.clear()
        await queue.dead.requeue(letter.id)
        await until(lambda: len(here.events.of(JobDone)) == 2)


async def test_fault_21_a_payload_that_cannot_be_decoded_never_reaches_the_handler(autojump_clock):
    seen = []

    async def work(job):
        seen.append(job.payload)

    async with pod(consumer(work, queues := empty(), unknown_grace=10.0)) as here:
        for topic, version, body in (("task", 1, b"garbage"), ("task", 2, b"{}"), ("other", 1, b"{}")):
            envelope = Envelope(topic=topic, version=version, body=body)
            job = NewJob(id=str(uuid4()), envelope=envelope, dedup=None, delay=0.0, priority=0)
            await backend_for(here.engine, "tasks").put([job])
        await queues[0].put(Task("good"))
        await until(lambda: here.events.of(JobDone))
        assert seen == [Task("good")]
        statistics = await queues[0].statistics()
        assert (statistics.dead, statistics.set_aside) == (1, 2)  # the unknown ones wait for a newer program
        await trio.sleep(11)
        assert (await queues[0].statistics()).dead == 3
        assert here.restarts == 0


# -- the store


async def test_an_outage_at_the_claim_is_waited_out(autojump_clock):
    async def work(job):
        pass

    async with pod(consumer(work, queues := empty())) as here:
        await settle()
        here.engine.down = True
        here.engine.store.notify()
        await until(lambda: not here.runtime.readiness().ok)
        assert "store" in here.runtime.readiness().reasons[0]
        await trio.sleep(60)
        outages = here.events.of(StoreOutage)
        assert 5 < len(outages) < 40
        assert outages[0].retry_in <= 0.1
        assert 3 < outages[-1].retry_in <= 5
        here.engine.down = False
        await trio.sleep(5)
        assert here.runtime.readiness().ok  # without a job to claim
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobDone))
        assert here.restarts == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_an_outage_at_the_outcome_is_waited_out(autojump_clock, fails):
    async def work(job):
        if job.attempt == 1:
            here.engine.down = True
            if fails:
                raise ValueError("boom")

    async with pod(consumer(work, queues := empty()), lease=60.0) as here:
        await queues[0].put(Task("a"))
        await until(lambda: not here.runtime.readiness().ok)
        await trio.sleep(10)
        here.engine.down = False
        await until(lambda: here.events.of(JobDone))
        assert here.runtime.readiness().ok
        assert here.events.one(JobDone).attempt == 1 + fails
        assert len(here.events.of(JobStarted)) == 1 + fails


async def test_an_outage_that_outlasts_the_lease_loses_the_job_and_not_the_readiness(autojump_clock):
    async def work(job):
        if job.attempt == 1:
            here.engine.down = True

    async with pod(consumer(work, queues := empty()), lease=6.0) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobLost))
        here.engine.down = False
        await until(lambda: here.events.of(JobDone))
        assert here.events.one(JobDone).attempt == 2
        await settle()
        assert here.runtime.readiness().ok


# -- the end of the consumer


async def test_a_crash_of_the_consumer_gives_everything_back(autojump_clock):
    """Its own code, not a handler: here an engine error that nobody expects, when an outcome is stored."""
    crash: list[Any] = []

    async def work(job):
        if job.payload.name == "crash" and not crash:
            crash.append(1)
            raise SystemError("not for a handler")
        await gate.wait()

    gate = trio.Event()

    class Crashing(Consumer):
        async def handle_job(self, job):
            return await super().handle_job(job)

    def children(engine):
        queue = tasks(engine)
        settle_jobs = queue.settle

        async def failing(outcomes, **options):
            outcomes = list(outcomes)
            if any(isinstance(outcome, Retry) for _, outcome in outcomes):
                raise RuntimeError("a defect")
            return await settle_jobs(outcomes, **options)

        queue.settle = failing  # type: ignore[method-assign]
        return [child(lambda: Crashing(queue, work, concurrency=3), id="consumer")]

    async with pod(children, lease=30.0) as here:
        queue = tasks(here.engine)
        await queue.put_many([Task("1"), Task("2"), Task("crash")])
        await until(lambda: here.restarts == 1)
        await until(
            lambda: len(here.events.of(JobStarted)) >= 5
        )  # the two that were given back, by the next incarnation
        again = [event for event in here.events.of(JobStarted) if event.releases == 1]
        assert [event.attempt for event in again] == [1, 1]
        gate.set()
        # The third one's lease is not renewed any more, though its engine lives on.
        await until(lambda: len(here.events.of(JobDone)) == 3)
        assert max(event.attempt for event in here.events.of(JobDone)) == 2


async def test_cancelled_from_outside_nothing_is_kept(autojump_clock):
    """Brutally stopped: waiting and running jobs go back, and the engine renews nothing."""
    started = []

    async def work(job):
        started.append(job)
        await trio.sleep_forever()

    def children(engine):
        queue = tasks(engine)
        return [child(lambda: Consumer(queue, work, concurrency=2), id="consumer", shutdown="brutal")]

    async with pod(children) as here:
        await tasks(here.engine).put_many([Task(str(n)) for n in range(5)])
        await until(lambda: len(started) == 2)
        await here.supervisor.terminate_child("consumer")
        statistics = await tasks(here.engine).statistics()
        assert (statistics.ready, statistics.running) == (5, 0)
        assert here.held == 0


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_what_a_handler_does_while_it_is_cancelled_says_nothing(autojump_clock, how):
    async def work(job):
        try:
            await trio.sleep_forever()
        finally:
            if how == "raises":
                raise ValueError("in the cleanup")
            return  # noqa: B012  (the test is about those who do it)

    async with pod(consumer(work, queues := empty()), lease=60.0) as here:
        await queues[0].put(Task("a"))
        await until(lambda: here.events.of(JobStarted))
        await here.drain(5.0)
        statistics = await queues[0].statistics()
        if how == "raises":
            here.events.one(JobReleased)
            assert statistics.ready == 1
        else:  # then it has finished
            here.events.one(JobDone)
            assert statistics.ready == 0
        assert not here.events.of(JobRetried)


async def test_ctrl_c_in_a_handler_gives_the_job_back(autojump_clock):
    store = MemoryStore()

    async def work(job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        async with pod(consumer(work, queues := empty()), store=store) as here:
            await queues[0].put(Task("a"))
            await trio.sleep(10)
    assert here.events.of(JobReleased)
    assert not here.events.of(JobRetried)


async def test_sys_exit_in_a_handler_counts(autojump_clock):
    store = MemoryStore()

    async def work(job):
        raise SystemExit(3)

    with pytest.raises(SystemExit):  # noqa: PT012
        async with pod(consumer(work, queues := empty()), store=store) as here:
            await queues[0].put(Task("a"))
            await trio.sleep(10)
    assert here.events.one(JobRetried).attempt == 1


async def test_a_failing_init_is_a_failed_start(autojump_clock):
    class Failing(Consumer):
        async def init(self):
            raise ValueError("no")

    with pytest.raises(Exception, match="failed to start"):
        async with pod(lambda engine: [child(lambda: Failing(tasks(engine), fine), id="consumer")]):
            pass


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1, not 0"),
        ({"concurrency": True}, TypeError, "concurrency must be a whole number, not True"),
        ({"concurrency": 1.5}, TypeError, "concurrency"),
        ({"handler_timeout": 0}, ValueError, "handler_timeout must be more than 0"),
        ({"handler_timeout": float("nan")}, ValueError, "handler_timeout"),
        ({"handler_timeout": "1"}, TypeError, "handler_timeout"),
        ({"backoff": 3}, TypeError, "backoff must be a Backoff, not 3"),
        ({"prefetch": 3}, TypeError, "prefetch"),
    ],
)
def test_wrong_settings_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        Consumer(tasks(MemoryEngine()), fine, **options)


def test_a_queue_is_needed():
    with pytest.raises(TypeError, match="queue must be a Queue, not 'tasks'"):
        Consumer("tasks", fine)  # type: ignore[arg-type]


async def test_stuck_says_so(autojump_clock, caplog):
    async def work(job):
        await shielded_sleep(100)

    with caplog.at_level(logging.ERROR, "patterns"):
        async with pod(consumer(work, queues := empty()), lease=60.0) as here:
            await queues[0].put(Task("a"))
            await until(lambda: here.events.of(JobStarted))
            await here.drain(5.0)
            assert here.events.one(HandlerStuck).handler == "Consumer.handle_job"
    assert "Consumer.handle_job does not obey" in caplog.text
