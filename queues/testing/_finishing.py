"""Conformance: how a job ends, and what becomes of it then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from otp.engines import Engine, LeaseLost
from queues import Done, Outcome, Reject, Release, Retry

from ._stage import Parcel, Stage

MakeEngine = Callable[[], Engine[Any]]


class Boom(Exception):
    """Thrown by a test."""


class Finishing(Stage):
    """Outcomes."""

    async def test_a_retried_job_comes_back_counted_with_its_error(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put(Parcel(1))
            job = await self.one(queue)
            before = pod.monotonic()
            try:
                await self.trouble()
            except Boom as error:
                await queue.retry(job, delay=0.2, error=error)
            assert await queue.claim() == []
            again = await self.one(queue)
            assert pod.monotonic() - before >= 0.2 - 0.01
            assert (again.id, again.attempt, again.releases) == (job.id, 2, 0)
            assert "Boom: the printer is on fire" in (again.last_error or "")
            assert "Traceback" in (again.last_error or "")

    async def test_a_released_job_keeps_its_place_and_its_attempt(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            queue = self.queue(one)
            await queue.put_many([Parcel(1), Parcel(2), Parcel(3)])
            job = await self.one(queue)
            await queue.release(job)
            jobs = await self.take(self.queue(two), 3)
            if self.keeps_place:
                assert [each.payload.number for each in jobs] == [1, 2, 3]
            (again,) = [each for each in jobs if each.id == job.id]
            assert (again.attempt, again.releases) == (1, 1)

    async def test_a_release_of_what_never_started_is_not_counted(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put(Parcel(1))
            (job,) = await self.take(queue, start=False)
            await queue.release(job)
            again = await self.one(queue)
            assert (again.attempt, again.releases) == (1, 0)

    async def test_a_release_wakes_the_others_at_once(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            queue = self.queue(one)
            await queue.put(Parcel(1))
            job = await self.one(queue)
            released_at = 0.0

            async def release_later() -> None:
                nonlocal released_at
                await trio.sleep(0.05)
                released_at = one.monotonic()
                await queue.release(job)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(release_later)
                await self.one(self.queue(two))
            # Long before the lease would have run out. How fast it is, benchmarks say.
            assert two.monotonic() - released_at < self.lease / 2

    async def test_a_release_with_a_delay_waits(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put(Parcel(1))
            job = await self.one(queue)
            await queue.release(job, delay=0.2)
            assert await queue.claim() == []
            assert (await self.one(queue)).releases == 1

    async def test_a_rejected_job_is_dead_and_not_handed_out(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put(Parcel(1))
            job = await self.one(queue)
            await queue.reject(job, reason="no such address", error="404")
            assert await queue.claim() == []
            (letter,) = await queue.dead.list()
            assert (letter.id, letter.kind, letter.source) == (job.id, "queue", "post")
            assert (letter.reason, letter.error, letter.attempts) == ("no such address", "404", 1)

    async def test_many_outcomes_at_once_are_judged_one_by_one(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put_many([Parcel(number) for number in range(5)])
            jobs = await self.take(queue, 5)
            await queue.ack(jobs[2])
            outcomes: list[Outcome] = [Done(), Retry(60.0, error="later"), Done(), Reject("never"), Release()]
            assert await queue.settle(list(zip(jobs, outcomes, strict=True))) == [jobs[2]]
            statistics = await queue.statistics()
            assert (statistics.ready, statistics.delayed, statistics.running, statistics.dead) == (1, 1, 0, 1)
            assert statistics.next_due_in is not None
            assert 50 < statistics.next_due_in <= 60
            counts = queue.counts
            assert (counts.done, counts.retried, counts.rejected, counts.released, counts.lost) == (2, 1, 1, 1, 1)
            assert await queue.settle([]) == []

    async def test_an_ack_belongs_to_the_callers_transaction(self, make_engine: MakeEngine) -> None:
        if not self.transactions:
            pytest.skip("the engine has no transactions")
        async with self.pods(make_engine) as (pod,):
            queue, effects = self.queue(pod), self.queue(pod, "effects")
            await queue.put(Parcel(1))
            job = await self.one(queue)

            async def ack_and_fail() -> None:
                async with pod.transaction() as tx:
                    await effects.put(Parcel(1), tx=tx)
                    await queue.ack(job, tx=tx)
                    await self.trouble()

            with pytest.raises(Boom):
                await ack_and_fail()
            assert (await queue.statistics()).running == 1
            assert not job.lease.lost
            assert pod.statistics().leases_held == 1  # and renewed
            async with pod.transaction() as tx:
                await effects.put(Parcel(1), tx=tx)
                await queue.ack(job, tx=tx)
            assert pod.statistics().leases_held == 0
            assert (await queue.statistics()).running == 0
            assert (await effects.statistics()).ready == 1
            assert pod.statistics().leases_held == 0

    async def test_fault_02_a_lost_lease_undoes_the_effect(self, make_engine: MakeEngine) -> None:
        if not self.transactions:
            pytest.skip("the engine has no transactions")
        async with self.pods(make_engine, 2) as (one, two):
            old, new, effects = self.queue(one), self.queue(two), self.queue(one, "effects")
            await old.put(Parcel(1))
            lost = await self.one(old)
            self.die(old, lost)
            job = await self.one(new)

            async def ack_too_late() -> None:
                async with one.transaction() as tx:
                    await effects.put(Parcel(1), tx=tx)
                    await old.ack(lost, tx=tx)

            with pytest.raises(LeaseLost):
                await ack_too_late()
            assert (await effects.statistics()).ready == 0
            await new.ack(job)

    async def test_every_outcome_fits_into_a_transaction(self, make_engine: MakeEngine) -> None:
        if not self.transactions:
            pytest.skip("the engine has no transactions")
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put_many([Parcel(number) for number in range(4)])
            one, two, three, four = await self.take(queue, 4)
            async with pod.transaction() as tx:
                await queue.retry(one, delay=60, error="later", tx=tx)
                await queue.release(two, tx=tx)
                await queue.reject(three, reason="never", tx=tx)
                assert await queue.settle([(four, Done())], tx=tx) == []
            statistics = await queue.statistics()
            assert (statistics.ready, statistics.delayed, statistics.running, statistics.dead) == (1, 1, 0, 1)

    async def test_statistics_name_the_oldest(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            statistics = await queue.statistics()
            assert (statistics.oldest_ready_age, statistics.next_due_in) == (0.0, None)
            await queue.put(Parcel(1))

            async def aged() -> bool:
                return (await queue.statistics()).oldest_ready_age >= 0.05

            await self.until(aged)

    async def trouble(self) -> None:
        """Fail as handlers do."""
        raise Boom("the printer is on fire")
