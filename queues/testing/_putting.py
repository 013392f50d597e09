"""Conformance: putting jobs, their order, their time and their dedup ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from otp.engines import Engine, StoreError

from ._stage import PATIENCE, Parcel, Stage

MakeEngine = Callable[[], Engine[Any]]


class Boom(Exception):
    """Thrown by a test."""


class Putting(Stage):
    """What is put comes out once, in order and in time."""

    async def test_a_job_comes_out_as_it_was_put(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            put = await queue.put(Parcel(7), headers={"trace": "abc"}, priority=3)
            job = await self.one(queue)
            assert (job.id, job.payload, job.topic, job.queue) == (put.job_id, Parcel(7), "parcel", "post")
            assert (job.attempt, job.releases, job.priority, job.last_error) == (1, 0, 3, None)
            assert dict(job.headers) == {"trace": "abc"}
            assert not put.duplicate
            assert job.lease.token.owner == pod.owner

    async def test_a_done_job_is_gone(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put(Parcel(1))
            await queue.ack(await self.one(queue))
            assert await queue.claim(10) == []
            statistics = await queue.statistics()
            assert (statistics.ready, statistics.running, statistics.dead) == (0, 0, 0)

    async def test_jobs_come_in_the_order_they_were_put(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put(Parcel(0))
            results = await queue.put_many([Parcel(number) for number in range(1, 20)])
            assert len({result.job_id for result in results}) == 19
            await queue.put(Parcel(20))
            taken = [job.payload.number for _ in range(7) for job in await self.take(queue, 3)]
            assert taken == list(range(21))

    async def test_priorities_come_before_age(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            for number, priority in enumerate([0, 5, -9, 9, 0, -9]):
                await queue.put(Parcel(number), priority=priority)
            assert [job.payload.number for job in await self.take(queue, 10)] == [2, 5, 0, 4, 1, 3]

    async def test_a_delayed_job_waits_and_lets_others_pass(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            before = pod.monotonic()
            await queue.put(Parcel(1), delay=0.3, priority=-9)
            await queue.put(Parcel(2))
            assert [job.payload.number for job in await queue.claim(10)] == [2]
            assert (await queue.statistics()).delayed == 1
            assert (await self.one(queue)).payload == Parcel(1)
            assert pod.monotonic() - before >= 0.3 - 0.01  # two clocks may differ by their grain

    async def test_a_put_wakes_who_waits(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            queue = self.queue(one)
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(queue.wait)
                    await self.queue(two).put(Parcel(1))

    async def test_queues_do_not_meet(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.queue(pod, "other").put(Parcel(1), id="same")
            queue = self.queue(pod)
            assert not (await queue.put(Parcel(2), id="same")).duplicate
            assert [job.payload.number for job in await queue.claim(10)] == [2]
            assert (await self.queue(pod, "other").statistics()).ready == 1

    async def test_nothing_put_is_nothing_done(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            assert await self.queue(pod).put_many([]) == []

    async def test_fault_18_a_known_dedup_id_names_the_first_job(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as pods:
            queues = [self.queue(pod) for pod in pods]
            first = await queues[0].put(Parcel(1), id="order-1")
            again = [await queue.put(Parcel(2), id="order-1") for queue in queues * 5]
            assert {(put.job_id, put.duplicate) for put in again} == {(first.job_id, True)}
            mixed = await queues[0].put_many([Parcel(3), Parcel(4), Parcel(5)], ids=["a", "order-1", "a"])
            assert [put.duplicate for put in mixed] == [False, True, True]
            assert mixed[2].job_id == mixed[0].job_id
            assert [job.payload.number for job in await self.take(queues[1], 10)] == [1, 3]
            assert (queues[0].counts.put, queues[0].counts.duplicates) == (2, 7)

    async def test_fault_18_a_dedup_id_outlives_job_and_restart(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            first = await queue.put(Parcel(1), id="order-1")
            await queue.ack(await self.one(queue))
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            again = await queue.put(Parcel(1), id="order-1")
            assert (again.job_id, again.duplicate) == (first.job_id, True)
            assert await queue.claim(10) == []

    async def test_a_dedup_id_is_forgotten_after_its_window(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod, dedup_window=0.1)
            first = await queue.put(Parcel(1), id="order-1")
            job = await self.one(queue)
            before = pod.monotonic()
            await queue.ack(job)

            async def put_anew() -> bool:
                again = await queue.put(Parcel(2), id="order-1")
                return again.job_id != first.job_id

            await self.until(put_anew)
            assert pod.monotonic() - before >= 0.1 - 0.01

    async def test_a_dedup_id_is_known_as_long_as_its_job_is_there(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod, dedup_window=0)
            first = await queue.put(Parcel(1), id="order-1")
            assert (await queue.put(Parcel(1), id="order-1")).duplicate
            job = await self.one(queue)
            assert (await queue.put(Parcel(1), id="order-1")).duplicate
            await queue.reject(job, reason="broken")
            assert (await queue.put(Parcel(1), id="order-1")).duplicate
            await queue.dead.drop(first.job_id)
            assert not (await queue.put(Parcel(1), id="order-1")).duplicate

    async def test_a_put_belongs_to_the_callers_transaction(self, make_engine: MakeEngine) -> None:
        if not self.transactions:
            pytest.skip("the engine has no transactions")
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)

            async def put_and_fail() -> None:
                async with pod.transaction() as tx:
                    await queue.put(Parcel(1), id="order-1", tx=tx)
                    raise Boom

            with pytest.raises(Boom):
                await put_and_fail()
            assert await queue.claim(10) == []
            async with pod.transaction() as tx:
                assert not (await queue.put(Parcel(2), id="order-1", tx=tx)).duplicate
                await queue.put_many([Parcel(3)], tx=tx)
            assert [job.payload.number for job in await self.take(queue, 10)] == [2, 3]

    async def test_a_closed_engine_says_so(self, make_engine: MakeEngine) -> None:
        queue = self.queue(make_engine())
        with pytest.raises(StoreError, match="open"):
            await queue.put(Parcel(1))
        with pytest.raises(StoreError, match="open"):
            await queue.claim()

    async def test_what_cannot_be_put_is_refused(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue: Any = self.queue(pod)
            for name, wrong in (
                ("delay", -1),
                ("delay", float("nan")),
                ("priority", 10),
                ("id", ""),
                ("id", "x" * 201),
            ):
                with pytest.raises(ValueError, match=name):
                    await queue.put(Parcel(1), **{name: wrong})
            for name, strange in (("delay", "soon"), ("delay", True), ("priority", 0.5), ("id", 7)):
                with pytest.raises(TypeError, match=name):
                    await queue.put(Parcel(1), **{name: strange})
            with pytest.raises(TypeError, match="no topic"):
                await queue.put("text")
            with pytest.raises(ValueError, match="ids"):
                await queue.put_many([Parcel(1)], ids=["a", "b"])
            assert (await queue.statistics()).ready == 0
