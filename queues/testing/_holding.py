"""Conformance: what is claimed is held, by one holder at a time, and every finish is fenced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from otp.engines import Engine, LeaseLost
from queues import Done, Outcome, Reject, Release, Retry

from ._stage import PATIENCE, Parcel, Stage

MakeEngine = Callable[[], Engine[Any]]
OUTCOMES: list[Outcome] = [Done(), Retry(0.0, error="late"), Reject("late"), Release()]


class Holding(Stage):
    """Leases, epochs and attempts."""

    async def test_a_claimed_job_is_nobody_elses(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            await self.queue(one).put_many([Parcel(1), Parcel(2)])
            assert (await self.one(self.queue(one))).payload == Parcel(1)
            assert [job.payload.number for job in await self.queue(two).claim(10)] == [2]
            assert await self.queue(one).claim(10) == []

    async def test_the_engine_renews_the_lease_while_the_handler_works(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            queue = self.queue(one)
            await queue.put(Parcel(1))
            job = await self.one(queue)
            first = job.lease.deadline
            with trio.fail_after(PATIENCE):
                while one.monotonic() < first + self.lease:  # twice as long as it could have lasted
                    assert await self.queue(two).claim() == []
                    await trio.sleep(self.lease / 10)
            assert not job.lease.lost
            await queue.ack(job)

    async def test_fault_17_an_expired_lease_is_taken_over_and_counts(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old, new = self.queue(one), self.queue(two)
            await old.put(Parcel(1))
            lost = await self.one(old)
            self.die(old, lost)
            assert await new.claim() == []
            job = await self.one(new)  # `wait` wakes up by itself when the time is over
            assert (job.id, job.attempt, job.releases) == (lost.id, 2, 0)
            assert job.lease.token.epoch > lost.lease.token.epoch
            assert "lease ran out in attempt 1" in (job.last_error or "")
            assert two.monotonic() >= lost.lease.deadline - 0.01
            assert new.counts.rescued == 1
            with pytest.raises(LeaseLost):
                await old.ack(lost)
            await new.ack(job)

    async def test_fault_03_a_job_never_started_costs_no_attempt(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old, new = self.queue(one, max_attempts=2), self.queue(two, max_attempts=2)
            await old.put(Parcel(1))
            held = await self.one(old, start=False)
            for _ in range(2):
                assert held.attempt == 1
                self.die(old, held)
                held = await self.one(old, start=False)
            self.die(old, held)
            job = await self.one(new)
            assert (job.attempt, job.releases, job.last_error) == (1, 0, None)
            with pytest.raises(LeaseLost):
                await old.start(held)

    async def test_start_counts_once(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old, new = self.queue(one), self.queue(two)
            await old.put(Parcel(1))
            (held,) = await self.take(old, start=False)
            await old.start(held)
            await old.start([held])
            self.die(old, held)
            assert (await self.one(new)).attempt == 2

    async def test_start_of_many_starts_those_that_are_ours(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put_many([Parcel(1), Parcel(2)])
            gone, held = await self.take(queue, 2, start=False)
            await queue.ack(gone)
            with pytest.raises(LeaseLost) as lost:
                await queue.start([gone, held])
            assert lost.value.token == gone.lease.token
            await queue.release(held)
            assert (await self.one(queue)).releases == 1  # so it had been started

    @pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
    async def test_fault_22_nothing_is_finished_under_a_lost_lease(
        self, make_engine: MakeEngine, outcome: Outcome
    ) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old, new = self.queue(one), self.queue(two)
            await old.put(Parcel(1))
            lost = await self.one(old)
            self.die(old, lost)
            job = await self.one(new)
            assert await old.settle([(lost, outcome)]) == [lost]
            assert old.counts.lost == 1
            for act in (old.extend(lost), old.start(lost)):
                with pytest.raises(LeaseLost):
                    await act
            statistics = await new.statistics()
            assert (statistics.running, statistics.ready, statistics.dead) == (1, 0, 0)
            assert not job.lease.lost
            await new.ack(job)

    @pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
    async def test_a_job_is_finished_once(self, make_engine: MakeEngine, outcome: Outcome) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put(Parcel(1))
            job = await self.one(queue)
            assert await queue.settle([(job, outcome)]) == []
            with pytest.raises(LeaseLost):
                await queue.ack(job)

    async def test_an_older_epoch_of_the_same_owner_is_fenced_too(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put(Parcel(1))
            seen: list[int] = []
            first = job = await self.one(queue)
            for outcome in (Release(), Retry(0.0), Reject("broken")):
                seen.append(job.lease.token.epoch)
                await queue.settle([(job, outcome)])
                await queue.dead.requeue(job.id)
                job = await self.one(queue)
            seen.append(job.lease.token.epoch)
            assert seen == sorted(set(seen))  # by no release, retry or requeue lower again
            for late in OUTCOMES:
                assert await queue.settle([(first, late)]) == [first]
            for also in (queue.start, queue.extend, queue.ack):
                with pytest.raises(LeaseLost):
                    await also(first)
            await queue.extend(job)
            assert (await queue.statistics()).running == 1
            assert await queue.dead.list() == []

    async def test_extend_renews_a_lease_that_is_still_ours(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            queue = self.queue(one)
            await queue.put(Parcel(1))
            job = await self.one(queue)
            self.die(queue, job)
            with trio.fail_after(PATIENCE):
                while one.monotonic() < job.lease.deadline + self.lease / 2:
                    await queue.extend(job)
                    assert await self.queue(two).claim() == []
                    await trio.sleep(self.lease / 5)
            await queue.ack(job)

    async def test_fault_10_a_handler_is_cancelled_when_its_job_went_to_another(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old, new = self.queue(one), self.queue(two)
            await old.put(Parcel(1))
            job = await self.one(old)
            # Behind the engine's back, as a partition or an operator would do it: the store gives it to another.
            assert await old.settle([(job, Release())]) == []
            one.hold(job.lease)
            taken = await self.one(new)
            with pytest.raises(LeaseLost), trio.fail_after(PATIENCE), job.lease.guard():
                await trio.sleep_forever()
            assert job.lease.lost
            await new.ack(taken)

    async def test_a_finished_job_is_not_reported_as_lost(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put_many([Parcel(number) for number in range(4)])
            jobs = await self.take(queue, 4)
            await queue.settle(list(zip(jobs, OUTCOMES, strict=True)))
            await trio.sleep(self.lease / 2)  # a heartbeat and more: it has nothing to complain about
            assert not any(job.lease.lost for job in jobs)
            assert pod.statistics().leases_held == 0
