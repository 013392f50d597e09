"""P1: pull jobs from a queue, acknowledge only after the work is done. ``python -m examples.queue_consumer``."""

import sys

import trio
from attrs import frozen

from otp import Backoff, Supervisor, child, open_supervisor
from otp.engines import Topic, engine_for
from patterns import QueueConsumer
from queues import Job, Queue


@frozen
class Resize:
    path: str


class Resizer(QueueConsumer[Resize]):
    async def handle_job(self, job: Job[Resize]) -> None:
        if job.payload.path == "b.jpg" and job.attempt == 1:
            raise OSError("disk is busy")  # it is tried again, after a backoff
        print(f"resized {job.payload.path} at attempt {job.attempt}")
        done.release()


async def main(url: str) -> None:
    store = engine_for(url)
    queue = Queue(store, "resize", [Topic("resize", Resize)])
    resizer = child(lambda: Resizer(queue, concurrency=2, backoff=Backoff(initial=0.2)), id="resizer")
    async with open_supervisor(Supervisor([child(lambda: store, id="store"), resizer], strategy="rest_for_one")):
        await queue.put_many([Resize("a.jpg"), Resize("b.jpg")])
        for _ in range(2):
            await done.acquire()


done = trio.Semaphore(0)
trio.run(main, [*sys.argv, "memory://"][1])
