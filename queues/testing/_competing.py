"""Conformance: many consumers at once, and cancellation at any point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import trio

from otp.engines import Engine

from ._stage import PATIENCE, Parcel, Stage

MakeEngine = Callable[[], Engine[Any]]


class Competing(Stage):
    """Nothing is lost and nothing is done twice, whoever is fast, slow or cancelled."""

    async def test_every_job_is_done_by_exactly_one_of_many(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 3) as pods:
            done: Counter[int] = Counter()
            total = 300

            async def consume(pod: Engine[Any], batch: int) -> None:
                queue = self.queue(pod)
                while done.total() < total:
                    for job in await queue.claim(batch):
                        await queue.ack(job)
                        done[job.payload.number] += 1
                    await trio.lowlevel.checkpoint()

            async def publish() -> None:
                for number in range(total):
                    await self.queue(pods[0]).put(Parcel(number))

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publish)
                    for batch in (1, 2, 5):
                        for pod in pods:
                            nursery.start_soon(consume, pod, batch)
            assert done == Counter(range(total))
            statistics = await self.queue(pods[0]).statistics()
            assert (statistics.ready, statistics.running, statistics.dead) == (0, 0, 0)

    async def test_a_storm_of_cancellations_leaves_nothing_leased_but_unseen(self, make_engine: MakeEngine) -> None:
        """A cancelled claim either took nothing or returned what it took."""
        rounds, per_round = 40, 10
        async with self.pods(make_engine, 2) as pods:
            queues = [self.queue(pod) for pod in pods]
            await queues[0].put_many([Parcel(number) for number in range(rounds * per_round * 2)])
            random = Random(7)
            seen: dict[str, Any] = {}
            scopes: list[trio.CancelScope] = []

            async def claim(number: int) -> None:
                queue = queues[number % 2]
                with trio.CancelScope() as scope:
                    scopes.append(scope)
                    jobs = await queue.claim(random.randint(1, 3), start=random.random() < 0.5)
                    for job in jobs:
                        assert job.id not in seen
                        seen[job.id] = (queue, job)

            with trio.fail_after(PATIENCE):
                for _ in range(rounds):
                    scopes.clear()
                    async with trio.open_nursery() as nursery:
                        for number in range(per_round):
                            nursery.start_soon(claim, number)
                        for _ in range(random.randint(0, 6)):
                            await trio.sleep(random.choice([0, 0, 0.0001, 0.0005]))
                        for scope in scopes:
                            if random.random() < 0.8:
                                scope.cancel()
            statistics = await queues[0].statistics()
            assert statistics.running == len(seen)
            assert statistics.running + statistics.ready == rounds * per_round * 2
            assert sum(pod.statistics().leases_held for pod in pods) == len(seen)
            for queue, job in seen.values():
                await queue.release(job)
            assert (await queues[0].statistics()).running == 0

    async def test_a_cancelled_finish_happened_or_did_not(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            await queue.put_many([Parcel(number) for number in range(100)])
            random = Random(11)
            unknown = 0
            with trio.fail_after(PATIENCE):
                for _ in range(100):
                    (job,) = await queue.claim()
                    finished = False
                    with trio.CancelScope() as scope:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._cancel_soon, scope, random.randint(0, 3))
                            await queue.ack(job)
                            finished = True
                    if not finished:
                        unknown += 1
                        # Nothing was written: it still is ours, and the lease is still renewed.
                        await queue.ack(job)
            statistics = await queue.statistics()
            assert (statistics.running, statistics.ready, statistics.dead) == (0, 0, 0)
            assert queue.counts.lost == 0
            assert pod.statistics().leases_held == 0
            assert unknown < 100

    @staticmethod
    async def _cancel_soon(scope: trio.CancelScope, checkpoints: int) -> None:
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        scope.cancel()
