"""A worker process that stops at a named point, to be killed or frozen there by test_faults.

    python fault_worker.py DATABASE LEASE POINT

It says on stdout, one JSON object a line, where it is and what happened. At its point it says so and waits until it
is killed or reads a line.
"""

import ctypes
import json
import os
import sys

import trio
from attrs import frozen

from otp.engines import LeaseLost, SqliteEngine, Topic
from queues import Queue


@frozen
class Work:
    number: int


WORK = Topic("work", Work)
EFFECT = "INSERT OR IGNORE INTO effect (job, owner, epoch) VALUES (?, ?, ?)"


def say(**words):
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def stop_at(point, here, **words):
    if point == here:
        say(at=here, **words)
        await trio.to_thread.run_sync(sys.stdin.readline)


async def main(path, lease, point):
    async with SqliteEngine(path, lease=lease) as engine:
        queue = Queue(engine, "work", [WORK], max_attempts=2)
        while not (jobs := await queue.claim(3, start=point != "before start")):
            await queue.wait()
        await stop_at(point, "before start", jobs=len(jobs))
        await stop_at(point, "before handler", jobs=len(jobs))
        for job in jobs:
            await handle(engine, queue, job, point)


async def handle(engine, queue, job, point):
    token = (job.id, job.lease.token.owner, job.lease.token.epoch)
    if point == "exit":
        os._exit(1)
    if point == "segfault":
        ctypes.string_at(0)
    try:
        with job.lease.guard():
            await stop_at(point, "in handler", attempt=job.attempt)
            if point == "in handler":
                await trio.sleep_forever()  # only the loss of the lease ends this
    except LeaseLost:
        say(cancelled=True)
    if point == "after effect":
        async with engine.transaction() as tx:
            await tx.execute(EFFECT, *token)
        await stop_at(point, "after effect")
    say(
        extend=await outcome(queue.extend, job),
        ack=await outcome(ack_with_effect, engine, queue, job, token, point),
    )


async def outcome(act, *args):
    try:
        await act(*args)
    except LeaseLost:
        return "LeaseLost"
    return "done"


async def ack_with_effect(engine, queue, job, token, point):
    async with engine.transaction(timeout=60) as tx:
        await tx.execute(EFFECT, *token)
        await queue.ack(job, tx=tx)
        await stop_at(point, "before commit")


trio.run(main, sys.argv[1], float(sys.argv[2]), sys.argv[3])
