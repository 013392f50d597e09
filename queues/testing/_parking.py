"""Conformance: dead letters, poison, and payloads that not everybody knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from otp.engines import Engine
from queues import Queue

from ._stage import LETTER, NEW_PARCEL, PARCEL, PATIENCE, Letter, NewParcel, Parcel, Stage

MakeEngine = Callable[[], Engine[Any]]


class Parking(Stage):
    """What nobody could do is kept and can be looked at; what somebody cannot read is left to others."""

    async def test_fault_19_a_job_that_always_fails_is_dead_after_its_last_attempt(
        self, make_engine: MakeEngine
    ) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod, max_attempts=3)
            put = await queue.put(Parcel(1), headers={"trace": "abc"}, priority=2)
            await queue.put(Parcel(2), priority=5)
            for attempt in (1, 2, 3):
                job = await self.one(queue)
                assert (job.id, job.attempt) == (put.job_id, attempt)
                await queue.retry(job, delay=0, error=f"no way {attempt}")
            assert (await self.one(queue)).payload == Parcel(2)  # the others flow
            letter = await queue.dead.show(put.job_id)
            assert letter is not None
            assert letter.reason == "attempts used up (max_attempts=3)"
            assert (letter.attempts, letter.error, letter.owner) == (3, "no way 3", pod.owner)
            assert PARCEL.decode(letter.envelope) == Parcel(1)
            assert dict(letter.envelope.headers) == {"trace": "abc"}
            assert [(each.attempt, each.error) for each in letter.history] == [
                (1, "no way 1"),
                (2, "no way 2"),
                (3, "no way 3"),
            ]
            assert letter.first_at <= letter.history[0].at <= letter.last_at

    async def test_fault_20_a_job_that_kills_its_worker_is_counted_and_dies(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 3) as pods:
            queues = [self.queue(pod, max_attempts=2) for pod in pods]
            put = await queues[0].put(Parcel(1))
            for attempt, queue in enumerate(queues[:2], 1):
                job = await self.one(queue)
                assert job.attempt == attempt
                self.die(queue, job)  # nobody can say how it ended
            with trio.fail_after(PATIENCE):
                while (letter := await queues[2].dead.show(put.job_id)) is None:
                    await queues[2].wait()
                    assert await queues[2].claim() == []
            assert letter.reason == "attempts used up (max_attempts=2)"
            assert "lease ran out in attempt 2" in letter.error
            assert [each.owner for each in letter.history] == [pod.owner for pod in pods[:2]]
            assert queues[2].counts.buried == 1

    async def test_history_keeps_the_first_failure_and_the_last_ones(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod, max_attempts=15)
            put = await queue.put(Parcel(1))
            for attempt in range(1, 16):
                await queue.retry(await self.one(queue), delay=0, error=f"failure {attempt}" * 1000)
            letter = await queue.dead.show(put.job_id)
            assert letter is not None
            assert [each.attempt for each in letter.history] == [1, *range(7, 16)]
            assert letter.history[0].error.endswith("failure 1failure 1")
            assert max(len(each.error) for each in letter.history) <= 2000

    async def test_a_requeued_letter_is_the_same_job_with_new_attempts(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod, max_attempts=1)
            put = await queue.put(Parcel(1), id="order-1", priority=2)
            job = await self.one(queue)
            await queue.retry(job, delay=0, error="no way")
            assert await queue.dead.requeue(put.job_id)
            assert not await queue.dead.requeue(put.job_id)
            assert await queue.dead.show(put.job_id) is None
            assert (await queue.put(Parcel(1), id="order-1")).duplicate
            again = await self.one(queue)
            assert (again.id, again.attempt, again.priority, again.last_error) == (put.job_id, 1, 2, "no way")
            assert again.enqueued_at == job.enqueued_at
            assert again.lease.token.epoch > job.lease.token.epoch
            await queue.retry(again, delay=0, error="still not")
            letter = await queue.dead.show(put.job_id)
            assert letter is not None
            assert [each.error for each in letter.history] == ["no way", "still not"]

    async def test_letters_are_listed_requeued_and_dropped_in_pages(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            other = self.queue(pod, "other")
            await other.put(Parcel(99))
            await other.reject(await self.one(other), reason="not ours")
            await queue.put_many([Parcel(number) for number in range(7)])
            for job in await self.take(queue, 7):
                await queue.reject(job, reason="even" if job.payload.number % 2 == 0 else "odd")
            first = await queue.dead.list(limit=4)
            rest = await queue.dead.list(limit=4, after=first[-1])
            letters = first + rest
            assert sorted(PARCEL.decode(letter.envelope).number for letter in letters) == list(range(7))
            assert [letter.last_at for letter in letters] == sorted(letter.last_at for letter in letters)
            assert await queue.dead.list(after=rest[-1]) == []
            assert await queue.dead.requeue_all(lambda letter: letter.reason == "odd") == 3
            assert sorted(job.payload.number for job in await self.take(queue, 10)) == [1, 3, 5]
            even = next(letter.id for letter in letters if letter.reason == "even")
            assert await queue.dead.drop(even)
            assert not await queue.dead.drop(even)
            assert await queue.dead.drop_all() == 3
            assert await queue.dead.requeue_all() == 0
            assert len(await other.dead.list()) == 1
            assert not await queue.dead.requeue((await other.dead.list())[0].id)

    async def test_fault_21_garbage_never_reaches_a_handler(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            queue = self.queue(pod)
            ids = [await self.put_bytes(pod, body) for body in (b"\xff\x00", b'{"number": "x"}', b"", b"[" * 100_000)]
            await queue.put(Parcel(1))
            (job,) = await self.take(queue, 10)
            assert job.payload == Parcel(1)
            letters = await queue.dead.list()
            assert {letter.id for letter in letters} == set(ids)
            first = await queue.dead.show(ids[0])
            assert first is not None
            assert first.envelope.body == b"\xff\x00"
            assert dict(first.envelope.headers) == {"trace": "t1"}
            assert all(letter.reason.startswith("payload cannot be read: ") for letter in letters)
            assert queue.counts.buried == 4
            assert not job.lease.lost

    async def test_fault_21_unknown_jobs_are_left_to_those_who_know_them(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            knows_both: Queue[Any] = Queue(one, "post", [PARCEL, LETTER])
            queue = self.queue(two)
            await knows_both.put(Letter("a"))
            await knows_both.put(Parcel(1))
            assert [job.payload for job in await queue.claim(10)] == [Parcel(1)]
            assert (await queue.statistics()).set_aside == 1
            job = await self.one(knows_both)
            assert (job.payload, job.attempt, job.releases) == (Letter("a"), 1, 0)
            assert queue.counts.set_aside == 1

    async def test_fault_24_a_newer_version_is_taken_at_once_by_a_newer_pod(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old, new = self.queue(one), Queue(two, "post", [NEW_PARCEL])
            for number in range(3):
                await new.put(NewParcel(number, "x"))
            await old.put(Parcel(3))
            await new.put(NewParcel(4, "x"))
            assert [job.payload.number for job in await self.take(old, 10)] == [3]
            assert (await old.statistics()).set_aside == 4
            # No delay, no attempt, no release, and in the old order, before what came after.
            await new.put(NewParcel(5, "x"))
            jobs = await new.claim(10)
            if self.keeps_place:
                assert [job.payload.number for job in jobs] == [0, 1, 2, 4, 5]
            assert {(job.attempt, job.releases) for job in jobs} == {(1, 0)}
            await new.release(jobs[0])
            assert await old.claim() == []
            assert (await new.claim())[0].id == jobs[0].id

    async def test_set_aside_jobs_wake_only_those_who_know_them(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old, new = self.queue(one), Queue(two, "post", [NEW_PARCEL])
            await new.put(NewParcel(1, "x"))
            assert await old.claim() == []
            with trio.move_on_after(0.1) as scope:
                await old.wait()
            assert scope.cancelled_caught  # nothing to do for old pods: they do not spin
            with trio.fail_after(PATIENCE):
                await new.wait()

    async def test_a_flock_of_unknown_jobs_does_not_hide_the_known(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old, new = self.queue(one), Queue(two, "post", [NEW_PARCEL])
            await new.put_many([NewParcel(number, "x") for number in range(3000)])
            await old.put(Parcel(1))
            assert (await self.one(old)).payload == Parcel(1)
            assert [job.payload.number for job in await new.claim(3)] == [0, 1, 2]

    async def test_fault_24_an_old_version_is_lifted(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            await self.queue(one).put(Parcel(1))
            assert (await self.one(Queue(two, "post", [NEW_PARCEL]))).payload == NewParcel(1, "none")

    async def test_fault_21_unknown_jobs_are_dead_after_the_grace(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            patient, queue = self.queue(one, unknown_grace=3600), self.queue(two, unknown_grace=0.2)
            new = Queue(one, "post", [NEW_PARCEL])
            letter_id = await self.put_bytes(one, b"{}", topic="letter", version=3)
            parcel_id = (await new.put(NewParcel(1, "x"))).job_id
            before = one.monotonic()
            assert await patient.claim() == []
            with trio.fail_after(PATIENCE):
                while (await queue.statistics()).dead < 2:
                    await queue.wait()  # wakes up by itself when the grace is over
                    assert await queue.claim() == []
            assert one.monotonic() - before >= 0.2 - 0.01
            letter, parcel = await queue.dead.show(letter_id), await queue.dead.show(parcel_id)
            assert letter is not None
            assert parcel is not None
            assert "topic 'letter' (json) is not known here (topics: 'parcel')" in letter.reason
            assert "version 2 of topic 'parcel' is not known here (version 1)" in parcel.reason
            assert (parcel.attempts, parcel.releases, letter.envelope.body) == (0, 0, b"{}")
            assert await queue.dead.requeue(parcel_id)
            assert (await self.one(new)).payload == NewParcel(1, "x")
