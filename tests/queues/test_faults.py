"""Faults with real processes: workers on SQLite that are killed or frozen at named points."""

import json
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import frozen

from otp.engines import SqliteEngine, Topic
from queues import Job, Queue

LEASE = 0.8
PATIENCE = 60


@frozen
class Work:
    number: int


WORK = Topic("work", Work)


class Worker:
    """One worker process; its words are read as they come."""

    def __init__(self, process):
        self.process = process
        self._rest = b""

    async def hear(self):
        with trio.fail_after(PATIENCE):
            while b"\n" not in self._rest:
                more = await self.process.stdout.receive_some()
                assert more, "the worker ended without a word"
                self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def go_on(self):
        await self.process.stdin.send_all(b"\n")

    async def kill(self):
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "work.db"


@asynccontextmanager
async def worker(path, point):
    command = [sys.executable, str(Path(__file__).with_name("fault_worker.py")), str(path), str(LEASE), point]
    run = partial(trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(run, command)
        try:
            yield Worker(process)
        finally:
            nursery.cancel_scope.cancel()  # kills it if it is still there


@asynccontextmanager
async def bystander(path, jobs):
    """The other pod, which is this process; it has put the jobs."""
    async with SqliteEngine(path, lease=LEASE) as engine:
        queue = Queue(engine, "work", [WORK], max_attempts=2)
        await queue.put_many([Work(number) for number in range(jobs)])
        async with engine.transaction() as tx:
            await tx.execute("CREATE TABLE IF NOT EXISTS effect (job TEXT PRIMARY KEY, owner TEXT, epoch INTEGER)")
        yield engine, queue


async def take_over(queue, jobs):
    """Claim so many, however long the lease of the dead still lasts; and how long it took."""
    taken: list[Job[Work]] = []
    before = trio.current_time()
    with trio.fail_after(PATIENCE):
        while len(taken) < jobs:
            await queue.wait()
            taken += await queue.claim(jobs - len(taken))
    return taken, trio.current_time() - before


async def finish(engine, queue, jobs):
    """As the worker does: the effect and the ack in one transaction."""
    for job in jobs:
        token = job.lease.token
        async with engine.transaction() as tx:
            await tx.execute("INSERT OR IGNORE INTO effect VALUES (?, ?, ?)", job.id, token.owner, token.epoch)
            await queue.ack(job, tx=tx)


async def effects(engine):
    return await engine.read(lambda c: c.execute("SELECT job, epoch FROM effect").fetchall())


async def assert_all_done(queue):
    statistics = await queue.statistics()
    assert (statistics.ready, statistics.delayed, statistics.running, statistics.dead) == (0, 0, 0, 0)


async def test_fault_01_killed_in_the_handler(path):
    async with bystander(path, 1) as (engine, queue), worker(path, "in handler") as other:
        assert await other.hear() == {"at": "in handler", "attempt": 1}
        await other.kill()
        jobs, seconds = await take_over(queue, 1)
        assert seconds <= LEASE + 1
        assert [job.attempt for job in jobs] == [2]
        await finish(engine, queue, jobs)
        assert len(await effects(engine)) == 1
        await assert_all_done(queue)


async def test_fault_02_killed_between_effect_and_ack(path):
    async with bystander(path, 1) as (engine, queue), worker(path, "after effect") as other:
        assert await other.hear() == {"at": "after effect"}
        await other.kill()
        jobs, _ = await take_over(queue, 1)
        await finish(engine, queue, jobs)
        # Done twice as far as anybody can tell, but its mark is there: the first effect stands.
        assert [epoch for _, epoch in await effects(engine)] == [1]
        await assert_all_done(queue)


async def test_fault_02_killed_before_the_commit_of_effect_and_ack(path):
    async with bystander(path, 1) as (engine, queue), worker(path, "before commit") as other:
        assert await other.hear() == {"at": "before commit"}
        await other.kill()
        jobs, _ = await take_over(queue, 1)
        assert await effects(engine) == []
        await finish(engine, queue, jobs)
        assert [epoch for _, epoch in await effects(engine)] == [2]
        await assert_all_done(queue)


@pytest.mark.parametrize(("point", "attempt"), [("before start", 1), ("before handler", 2)])
async def test_fault_03_killed_between_claim_and_handler(path, point, attempt):
    async with bystander(path, 3) as (engine, queue), worker(path, point) as other:
        assert await other.hear() == {"at": point, "jobs": 3}
        await other.kill()
        jobs, seconds = await take_over(queue, 3)
        assert seconds <= LEASE + 1
        assert [job.attempt for job in jobs] == [attempt] * 3
        await finish(engine, queue, jobs)
        assert len(await effects(engine)) == 3
        await assert_all_done(queue)


async def test_fault_10_zombie_wakes_up_after_its_lease(path):
    async with bystander(path, 1) as (engine, queue), worker(path, "in handler") as other:
        assert await other.hear() == {"at": "in handler", "attempt": 1}
        other.process.send_signal(signal.SIGSTOP)
        jobs, _ = await take_over(queue, 1)
        other.process.send_signal(signal.SIGCONT)
        await other.go_on()
        # Its handler is cancelled, its extend and its ack are refused while the new holder works.
        assert await other.hear() == {"cancelled": True}
        assert await other.hear() == {"extend": "LeaseLost", "ack": "LeaseLost"}
        await finish(engine, queue, jobs)
        assert [epoch for _, epoch in await effects(engine)] == [2]
        await assert_all_done(queue)


async def test_fault_10_zombie_wakes_up_after_the_job_was_done(path):
    async with bystander(path, 1) as (engine, queue), worker(path, "in handler") as other:
        await other.hear()
        other.process.send_signal(signal.SIGSTOP)
        jobs, _ = await take_over(queue, 1)
        await finish(engine, queue, jobs)
        other.process.send_signal(signal.SIGCONT)
        await other.go_on()
        assert await other.hear() == {"cancelled": True}
        assert await other.hear() == {"extend": "LeaseLost", "ack": "LeaseLost"}
        assert [epoch for _, epoch in await effects(engine)] == [2]
        await assert_all_done(queue)


async def test_fault_20_a_handler_that_kills_its_process_is_counted(path):
    async with bystander(path, 1) as (_, queue):
        for point in ("exit", "segfault"):
            async with worker(path, point) as other:
                with trio.fail_after(PATIENCE):
                    assert await other.process.wait() != 0
        with trio.fail_after(PATIENCE):
            while not (letters := await queue.dead.list()):
                await queue.wait()
                assert await queue.claim() == []
        (letter,) = letters
        assert (letter.attempts, letter.reason) == (2, "attempts used up (max_attempts=2)")
        assert len({failure.owner for failure in letter.history}) == 2
        assert await queue.dead.requeue(letter.id)
        (job,) = await queue.claim()
        assert (job.attempt, job.lease.token.epoch) == (1, 3)
        await queue.ack(job)
