"""Fault tests: real processes on one SQLite file, killed, stopped and asked to stop at named points.

Each checks what it can of: **L** every job that was put ends as done or dead; **X** one committed effect per job; **F**
no effect under an older epoch than one already there; **O** entries in order; and that no attempt was charged for a
deploy.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio

from checkpoints import Inbox
from otp.engines import SqliteEngine
from queues import Queue
from tests.patterns.support import TASK, Task

ROOT = Path(__file__).parents[2]
LEASE = 1.0
PATIENCE = 30.0


class Pod:
    """A process, and what it has said."""

    def __init__(self, process):
        self.process = process
        self.said = []
        self.output = ""
        self._news = trio.Event()

    async def listen(self):
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                text = line.decode()
                self.output += text + "\n"
                if text.startswith("! "):
                    self.said.append(text[2:])
            self._news.set()
            self._news = trio.Event()

    async def says(self, words, times=1):
        with trio.fail_after(PATIENCE):
            while sum(line.startswith(words) for line in self.said) < times:
                await self._news.wait()

    def signal(self, number):
        self.process.send_signal(number)

    async def ends(self):
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


class Stage:
    """A store, its pods, and what is in the store."""

    def __init__(self, path, nursery):
        self.path = path
        self._nursery = nursery
        self.pods = []

    async def start(self, role, point="", **environment):
        name = f"pod-{len(self.pods) + 1}"
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.patterns.fault_pod", role, str(self.path), name, point],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "LEASE": str(LEASE), **environment},
        )
        pod = Pod(process)
        self.pods.append(pod)
        self._nursery.start_soon(pod.listen)
        return pod

    async def ready(self, role, point="", **environment):
        pod = await self.start(role, point, **environment)
        await pod.says("ready")
        return pod

    @asynccontextmanager
    async def queue(self, **options):
        async with SqliteEngine(self.path, lease=LEASE, synchronous="normal") as engine:
            yield Queue(engine, "tasks", [TASK], **options)

    async def put(self, *names):
        async with self.queue() as queue:
            return [(await queue.put(Task(name), id=name)).job_id for name in names]

    async def post(self, *names):
        async with SqliteEngine(self.path, lease=LEASE, synchronous="normal") as engine:
            for name in names:
                await Inbox(engine, "ledger", [TASK]).post(Task(name), id=name)

    def rows(self, sql):
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def effects(self):
        return self.rows("SELECT name, attempt, epoch, pod FROM effect ORDER BY seq")

    def jobs(self):
        return self.rows("SELECT id, state, attempts, releases FROM hf_job ORDER BY seq")

    async def until(self, condition):
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    if condition():
                        return
                except sqlite3.OperationalError as error:
                    if "no such table" not in str(error):  # not yet
                        raise
                await trio.sleep(0.01)

    async def all_done(self):
        await self.until(lambda: not self.jobs())


@pytest.fixture
async def stage(tmp_path, nursery):
    stage = Stage(tmp_path / "store.db", nursery)
    yield stage
    for pod in stage.pods:
        if pod.process.returncode is None:
            pod.signal(signal.SIGCONT)
            pod.process.kill()
        with trio.CancelScope(shield=True):
            await pod.process.wait()
    nursery.cancel_scope.cancel()


# -- kill -9


async def test_fault_01_killed_in_the_middle_of_a_job(stage):
    await stage.put("a", "b")
    killed = await stage.start("worker", "in-handler")
    other = stage.ready("worker")
    await killed.says("at in-handler")
    assert await killed.ends() == -signal.SIGKILL
    begun = time.monotonic()
    other = await other
    ready = time.monotonic()
    await stage.all_done()
    assert time.monotonic() - max(begun, ready) < LEASE + 1.0
    effects = stage.effects()
    assert sorted(name for name, *_ in effects) == ["a", "b"]
    assert {attempt for _, attempt, *_ in effects} <= {1, 2}
    assert (2, "pod-2") in {(attempt, pod) for _, attempt, _, pod in effects}
    assert other.process.returncode is None


async def test_fault_02_killed_between_the_effect_and_the_acknowledgement(stage):
    await stage.put("a")
    killed = await stage.start("worker", "before-ack")
    assert await killed.ends() == -signal.SIGKILL
    assert [(name, attempt) for name, attempt, *_ in stage.effects()] == [("a", 1)]
    await stage.start("worker", "before-ack")
    await stage.all_done()
    assert [(name, attempt) for name, attempt, *_ in stage.effects()] == [("a", 1)]


async def test_fault_03_killed_between_the_claim_and_the_handler(stage):
    await stage.put("a", "b", "c")
    killed = await stage.start("worker", "after-claim")
    assert await killed.ends() == -signal.SIGKILL
    assert not any(line.startswith("begins") for line in killed.said)
    assert [(state, attempts) for _, state, attempts, _ in stage.jobs()] == [("running", 1)] * 3
    await stage.start("worker")
    await stage.all_done()
    assert sorted((name, attempt) for name, attempt, *_ in stage.effects()) == [("a", 2), ("b", 2), ("c", 2)]


async def test_a_checkpointed_job_killed_after_its_second_step_repeats_none(stage):
    await stage.put("x")
    killed = await stage.start("stepper", "after-b")
    assert await killed.ends() == -signal.SIGKILL
    await stage.start("stepper")
    await stage.all_done()
    assert stage.rows("SELECT name, pod FROM step ORDER BY seq") == [("a", "pod-1"), ("b", "pod-1"), ("c", "pod-2")]
    assert [(name, total, pod) for name, total, _, pod in stage.effects()] == [("x", 3, "pod-2")]


async def test_fault_20_a_handler_that_kills_the_process_is_dead_after_its_attempts(stage):
    await stage.put("poison", "good")
    environment = {
        "LEASE": "0.5",
        "ATTEMPTS": "2",
        "CONCURRENCY": "1",
    }
    for _ in range(2):
        pod = await stage.start("worker", "exit", **environment)
        assert await pod.ends() == 9
    await stage.start("worker", "exit", **environment)
    await stage.all_done()
    ((attempts, reason, error),) = stage.rows("SELECT attempts, reason, error FROM hf_job_dead")
    assert attempts == 2
    assert "attempts used up" in reason
    assert "lease" in error
    assert [name for name, *_ in stage.effects()] == ["good"]


# -- SIGTERM


async def test_fault_06_rolling_restarts_under_load(stage):
    """Two pods, replaced one after the other while 200 jobs a second come in."""
    pods = [await stage.ready("worker"), await stage.ready("worker")]
    put: list[Any] = []
    rolling = True

    async def publish():
        async with stage.queue() as queue:
            while rolling:
                names = [f"job-{len(put) + n}" for n in range(10)]
                await queue.put_many([Task(name) for name in names], ids=names)
                put.extend(names)
                await trio.sleep(0.05)

    exits = []
    async with trio.open_nursery() as publishing:
        publishing.start_soon(publish)
        for _ in range(5):
            new = await stage.ready("worker")
            old = pods.pop(0)
            old.signal(signal.SIGTERM)
            exits.append(await old.ends())
            pods.append(new)
        rolling = False
    await stage.all_done()
    assert exits == [0] * 5
    effects = stage.effects()
    assert sorted(name for name, *_ in effects) == sorted(put)  # L and X
    assert {attempt for _, attempt, *_ in effects} == {1}  # not one was charged
    assert stage.rows("SELECT count(*) FROM hf_job_dead") == [(0,)]
    assert len(put) > 100


async def test_fault_07_a_job_longer_than_the_deadline(stage):
    """Cancelled, its checkpoint kept, given back at once and not after the lease."""
    await stage.put("x")
    old = await stage.start("stepper", "long-b", GRACE="2.0", LEASE="60")  # 1.3 s of it to drain
    await old.says("at long-b")
    begun = time.monotonic()
    old.signal(signal.SIGTERM)
    await stage.until(lambda: [row[1:] for row in stage.jobs()] == [("ready", 0, 1)])
    assert time.monotonic() - begun < 2.0
    assert await old.ends() == 75  # work was given back
    assert time.monotonic() - begun < 2.0 + 1.0
    assert stage.rows("SELECT step FROM hf_checkpoint") == [("a",)]
    await stage.start("stepper")
    await stage.all_done()
    assert stage.rows("SELECT name, pod FROM step ORDER BY seq") == [
        ("a", "pod-1"),
        ("b", "pod-1"),
        ("b", "pod-2"),
        ("c", "pod-2"),
    ]
    assert stage.rows("SELECT count(*) FROM effect") == [(1,)]


async def test_fault_08_a_second_sigterm_gives_back_at_once(stage):
    (job,) = await stage.put("x")
    pod = await stage.start("worker", "sleep", GRACE="60", LEASE="60")
    await pod.says("at sleep")
    pod.signal(signal.SIGTERM)
    await trio.sleep(0.3)
    assert pod.process.returncode is None  # it drains
    begun = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert await pod.ends() == 75
    assert time.monotonic() - begun < 2.0
    assert stage.jobs() == [(job, "ready", 0, 1)]
    assert not stage.effects()


async def test_fault_38_a_handler_that_shields_for_ever(stage):
    (job,) = await stage.put("x")
    pod = await stage.start("worker", "shield", GRACE="3.0", LEASE="60")
    await pod.says("at shield")
    begun = time.monotonic()
    pod.signal(signal.SIGTERM)
    await stage.until(lambda: stage.jobs() == [(job, "ready", 0, 1)])
    assert await pod.ends() == 75
    assert time.monotonic() - begun < 3.0 + 1.0
    assert "Worker.handle_job does not obey its cancellation" in pod.output
    await stage.start("worker")
    await stage.all_done()
    assert [(name, attempt) for name, attempt, *_ in stage.effects()] == [("x", 1)]


@pytest.mark.parametrize("stall_limit", [60.0, 0.2])
async def test_a_handler_that_blocks_the_loop_keeps_nothing(stage, stall_limit):
    """Given back by a thread at the forced end; charged where the process counts as dead by then."""
    (job,) = await stage.put("x")
    pod = await stage.start("worker", "block", GRACE="2.0", LEASE="60", STALL_LIMIT=str(stall_limit))
    await pod.says("at block")
    begun = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert await pod.ends() == 75
    assert time.monotonic() - begun < 2.0 + 1.0
    if stall_limit == 60.0:
        assert stage.jobs() == [(job, "ready", 0, 1)]
    else:
        assert stage.jobs() == [(job, "running", 1, 0)]  # until a claim finds that its lease has ended
    await stage.start("worker", LEASE="60")
    await stage.all_done()
    assert time.monotonic() - begun < 30.0
    assert [(name, attempt) for name, attempt, *_ in stage.effects()] == [("x", 1 if stall_limit == 60.0 else 2)]


@pytest.mark.parametrize("how", ["block", "shield"])
async def test_an_inbox_entry_whose_handler_does_not_end_is_not_charged(stage, how):
    await stage.post("a")
    pod = await stage.start("ledger", how, GRACE="2.0", LEASE="60", STALL_LIMIT="60")
    await pod.says(f"at {how}")
    assert stage.rows("SELECT attempts, releases FROM hf_inbox") == [(1, 0)]
    pod.signal(signal.SIGTERM)
    assert await pod.ends() == 75
    assert stage.rows("SELECT attempts, releases FROM hf_inbox") == [(0, 1)]
    await stage.start("ledger", LEASE="60")
    await stage.until(lambda: [(name, attempt) for name, attempt, *_ in stage.effects()] == [("a", 1)])


async def test_when_the_tree_gives_up_a_child_that_does_not_stop_keeps_nothing_of_others(stage):
    """It stands after the consumer in the order, so the consumer is not even asked to stop."""
    (job,) = await stage.put("x")
    pod = await stage.start("worker", "give-up", GRACE="3.0", LEASE="60")
    await pod.says("at give-up")
    await stage.until(lambda: stage.jobs() == [(job, "ready", 0, 1)])
    assert pod.process.returncode is None  # that was done in order, not at the forced end
    assert await pod.ends() == 1


# -- zombies, and two of one name


async def test_fault_10_a_zombie_writes_nothing(stage):
    await stage.put("x")
    zombie = await stage.start("worker", "zombie")
    await zombie.says("at zombie")
    other = await stage.start("worker")
    await stage.all_done()
    zombie.signal(signal.SIGCONT)
    await zombie.says("lost")
    assert [(name, attempt, pod) for name, attempt, _, pod in stage.effects()] == [("x", 2, "pod-2")]
    await stage.put("y")  # it goes on as a consumer like any other
    await stage.all_done()
    assert zombie.process.returncode is other.process.returncode is None


async def test_fault_09_two_processes_of_one_name(stage):
    first = await stage.ready("ledger")
    second = await stage.ready("ledger")
    await stage.until(lambda: any(line.startswith("leads") for line in first.said + second.said))
    names = [f"entry-{number}" for number in range(20)]
    await stage.post(*names[:10])
    await stage.until(lambda: len(stage.effects()) == 10)
    leader, standby = (first, second) if any(line.startswith("leads") for line in first.said) else (second, first)
    assert not any(line.startswith(("leads", "entry")) for line in standby.said)
    begun = time.monotonic()
    leader.signal(signal.SIGTERM)
    await standby.says("leads")
    assert await leader.ends() == 0
    assert time.monotonic() - begun < LEASE + 1  # by the hand-over; the lease would be as long by itself
    await stage.post(*names[10:])
    await stage.until(lambda: len(stage.effects()) == 20)
    effects = stage.effects()
    assert [name for name, *_ in effects] == names  # O
    epochs = [epoch for _, _, epoch, _ in effects]
    assert epochs == sorted(epochs)  # F


async def test_the_leader_stopped_between_read_and_commit_is_refused(stage):
    """The aggregator's zombie: its standby has applied the entry meanwhile."""
    zombie = await stage.start("ledger", "zombie")
    await zombie.says("leads")
    await stage.post("a", "b", "c")
    await zombie.says("at zombie")
    standby = await stage.start("ledger")
    await standby.says("entry", times=2)
    await stage.until(lambda: len(stage.effects()) == 3)
    zombie.signal(signal.SIGCONT)
    await zombie.says("SteppedDown")
    await zombie.says("StandingBy")
    assert [(name, attempt) for name, attempt, *_ in stage.effects()] == [("a", 1), ("b", 2), ("c", 1)]
    assert zombie.process.returncode is None


@pytest.mark.parametrize("point", ["before-processing", "before-mark", "during-replay"])
async def test_fault_33_the_inbox_after_a_kill(stage, point):
    await stage.post("a", "b", "c", "d")
    killed = await stage.start("ledger", point)
    assert await killed.ends() == -signal.SIGKILL
    await stage.post("late")
    await stage.start("ledger", point if point == "before-mark" else "")
    await stage.until(lambda: stage.rows("SELECT depth FROM hf_inbox_head") == [(0,)])
    assert [name for name, *_ in stage.effects()] == ["a", "b", "c", "d", "late"]
    attempts = {name: attempt for name, attempt, *_ in stage.effects()}
    first_try = dict.fromkeys(["a", "b", "c", "d", "late"], 1)
    charged: dict[str, dict[str, int]] = {"before-processing": {"a": 2}, "before-mark": {}, "during-replay": {"c": 2}}
    assert attempts == {**first_try, **charged[point]}
