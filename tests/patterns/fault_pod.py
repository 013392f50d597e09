"""A pod of its own for the fault tests: ``python -m tests.patterns.fault_pod ROLE PATH NAME [POINT]``.

It runs as in a container, by `otp.run`. At a named POINT it dies, stops or stays once (the first pod of a test to come
there). What it does it says in lines that begin with "!", written at once and unbuffered, since it may be killed at any
moment.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import trio

from checkpoints import Checkpoints, Entry, Inbox
from otp import Backoff, RunSettings, Runtime, Supervisor, child, current_context, run
from otp.engines import LeaseLost, Migration, SqliteEngine
from patterns import (
    CheckpointedActor,
    CheckpointedJobs,
    DurableInbox,
    JobLost,
    PatternEvent,
    QueueConsumer,
    Steps,
)
from queues import Job, Queue
from tests.patterns.support import TASK, Task

SCHEMA = [
    Migration(
        number=1,
        statements=(
            "CREATE TABLE effect (seq INTEGER PRIMARY KEY, name TEXT, attempt INTEGER, epoch INTEGER, pod TEXT)",
            "CREATE TABLE step (seq INTEGER PRIMARY KEY, name TEXT, pod TEXT)",
        ),
    )
]
EFFECT = "INSERT INTO effect (name, attempt, epoch, pod) VALUES (?, ?, ?, ?)"
SOON = Backoff(initial=0.02, cap=0.02)

role, path, me = sys.argv[1:4]
wanted = sys.argv[4] if len(sys.argv) > 4 else ""


def say(*words: object) -> None:
    os.write(1, ("! " + " ".join(str(word) for word in words) + "\n").encode())


def first_at(point: str) -> bool:
    if point != wanted:
        return False
    try:
        Path(f"{path}.{point}").touch(exist_ok=False)
    except FileExistsError:
        return False
    say("at", point)
    come.set()
    return True


def die_at(point: str) -> None:
    if first_at(point):
        os.kill(os.getpid(), signal.SIGKILL)


async def stop() -> None:
    """Stop this process outside of any transaction, also of the heartbeat's: it would keep the file locked for all."""
    await trio.sleep(0.1)  # the claimer, say, waits by then
    await engine.write(lambda _: None)
    beat = engine._heartbeat
    assert beat is not None
    while True:
        with beat._lock:
            if beat._keeper._flight is None:
                os.kill(os.getpid(), signal.SIGSTOP)
                return
        await trio.sleep(0.001)


async def may_not_end() -> None:
    if wanted == "block" and first_at("block"):
        await current_context().runtime.draining.wait()
        time.sleep(60)  # noqa: ASYNC251  (that is what it is about)
    if wanted == "shield" and first_at("shield"):
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


def make_engine() -> SqliteEngine:
    lease = float(os.environ.get("LEASE", "1.0"))
    stall_limit = float(os.environ.get("STALL_LIMIT", "5.0"))
    engine = SqliteEngine(path, lease=lease, stall_limit=stall_limit, synchronous="normal")
    engine.schema("test", SCHEMA)
    return engine


engine = make_engine()
come = trio.Event()  # to the wanted point


class Worker(QueueConsumer[Task]):
    async def init(self) -> None:
        listen(self.context.runtime)
        say("ready")

    async def handle_job(self, job: Job[Task]) -> None:
        name = job.payload.name
        say("begins", name, job.attempt)
        die_at("in-handler")
        if wanted == "zombie" and first_at("zombie"):
            await stop()
        if wanted == "exit" and name == "poison":
            os._exit(9)
        await may_not_end()
        if wanted in ("sleep", "give-up") and first_at(wanted):
            await trio.sleep(60)
        if wanted == "before-ack":  # the effect and the acknowledgement apart: the effect's own mark tells
            await self.effect_apart(job)
            die_at("before-ack")
            return
        async with self.commit(job) as tx:
            await tx.execute(EFFECT, name, job.attempt, job.lease.token.epoch, me)

    async def effect_apart(self, job: Job[Task]) -> None:
        async with self.queue.engine.transaction() as tx:
            if not await tx.execute("SELECT 1 FROM effect WHERE name = ?", job.payload.name):
                await tx.execute(EFFECT, job.payload.name, job.attempt, job.lease.token.epoch, me)


class Stepping(CheckpointedActor[Task, int]):
    async def run(self, job: Task, steps: Steps) -> int:
        total = 0
        for name in ("a", "b", "c"):
            total = await steps(name, self.step, name, total)
            if name == "b":
                die_at("after-b")
        return total

    async def step(self, name: str, total: int) -> int:
        say("step", name)
        async with engine.transaction() as tx:
            await tx.execute("INSERT INTO step (name, pod) VALUES (?, ?)", name, me)
        if name == "b" and wanted == "long-b" and first_at("long-b"):
            await trio.sleep(60)
        return total + 1

    async def finish(self, job: Task, result: int, tx: object) -> None:
        epoch = self.checkpoint.lease.token.epoch
        await tx.execute(EFFECT, job.name, result, epoch, me)  # type: ignore[attr-defined]


class Stepper(CheckpointedJobs[Task]):
    async def init(self) -> None:
        listen(self.context.runtime)
        say("ready")


class Ledger(DurableInbox[Task]):
    async def init(self) -> None:
        say("leads", self.epoch)

    async def handle_entry(self, entry: Entry[Task]) -> None:
        say("entry", entry.seq, entry.attempt)
        die_at("before-processing")
        await may_not_end()
        if entry.seq == 3:
            die_at("during-replay")
        if entry.seq == 2 and wanted == "zombie" and first_at("zombie"):
            await stop()
        if wanted == "before-mark":  # the effect apart, known by the entry's id
            async with self.inbox.engine.transaction() as tx:
                if not await tx.execute("SELECT 1 FROM effect WHERE name = ?", entry.payload.name):
                    await tx.execute(EFFECT, entry.payload.name, entry.attempt, self.epoch, me)
            die_at("before-mark")
            return
        try:
            async with entry.commit() as tx:
                await tx.execute(EFFECT, entry.payload.name, entry.attempt, self.epoch, me)
        except LeaseLost:
            say("refused", entry.seq)
            raise


def listen(runtime: Runtime) -> None:
    runtime.events.subscribe(lambda event: say("lost", event.job), JobLost)  # type: ignore[attr-defined]
    runtime.events.subscribe(lambda event: say(type(event).__name__), PatternEvent)


class ClaimedAndDead(Queue[Task]):
    async def claim(self, limit: int = 1, *, start: bool = True) -> list[Job[Task]]:
        jobs = await super().claim(limit, start=start)
        if jobs:
            die_at("after-claim")
        return jobs


async def stay() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def fail_where_wanted() -> None:
    """For "give-up": when a job is in its handler, the tree gives up."""
    await come.wait()
    raise RuntimeError("the tree gives up")


async def announce() -> None:
    listen(current_context().runtime)
    say("ready")
    await trio.sleep_forever()


def make_app() -> Supervisor:
    queue = ClaimedAndDead(engine, "tasks", [TASK], max_attempts=int(os.environ.get("ATTEMPTS", "20")))
    concurrency = int(os.environ.get("CONCURRENCY", "3"))
    children = [child(lambda: engine, id="store")]
    if role == "worker":
        children.append(child(lambda: Worker(queue, concurrency=concurrency, backoff=SOON), id="worker"))
        if wanted == "give-up":
            children += [child(stay), child(fail_where_wanted)]
    elif role == "stepper":
        children.append(child(lambda: Stepper(queue, Checkpoints(engine), Stepping, backoff=SOON), id="stepper"))
    else:
        inbox = Inbox(engine, "ledger", [TASK])
        children += [child(lambda: Ledger(inbox, backoff=SOON), id="ledger"), child(announce)]
    return Supervisor(children, strategy="rest_for_one", intensity=0 if wanted == "give-up" else 3)


if __name__ == "__main__":
    grace = float(os.environ.get("GRACE", "10"))
    run(make_app(), settings=RunSettings(grace=grace, log_level="WARNING"))
