"""P2: save after each step; after a crash go on from the last. ``python -m examples.checkpointed_actor``."""

import sys

import trio

from checkpoints import Checkpoints
from otp import Backoff, Supervisor, child, open_supervisor
from otp.engines import Topic, engine_for
from patterns import CheckpointedActor, CheckpointedJobs, Steps
from queues import Queue


class Analysis(CheckpointedActor[str, int]):
    def split(self, text: str) -> list[str]:
        print("step: split")
        return text.split()

    async def run(self, job: str, steps: Steps) -> int:
        words = await steps("split", self.split, job)  # after the crash the saved result: it does not run again
        print("goes on with", words, 1 // next(divisors))
        return len(words)

    async def finish(self, job: str, result: int, tx: object) -> None:
        print(f"{result} words")  # what is stored through tx is one transaction with the acknowledgement
        done.set()


async def main(url: str) -> None:
    store = engine_for(url)
    queue = Queue(store, "analysis", [Topic("text", str)])
    jobs = child(lambda: CheckpointedJobs(queue, Checkpoints(store), Analysis, backoff=Backoff(initial=0.2)), id="jobs")
    async with open_supervisor(Supervisor([child(lambda: store, id="store"), jobs], strategy="rest_for_one")):
        await queue.put("what must last is held outside")
        await done.wait()


done, divisors = trio.Event(), iter([0, 1])  # the first division crashes
trio.run(main, [*sys.argv, "memory://"][1])
