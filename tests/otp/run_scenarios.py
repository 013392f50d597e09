"""A program that is run as a process by test_run.py: `python run_scenarios.py SCENARIO`."""

# ruff: noqa: T201  (test_run.py reads what it prints)
import atexit
import gc
import os
import signal
import sys
import threading
import time

import trio

from otp import Behaviour, ChildStarted, Runtime, Supervisor, child, current_context, run


class Consumer(Behaviour):
    """Drains for as many seconds as WORK says."""

    async def serve(self, context):
        context.runtime.at_exit(lambda: print("leases released", flush=True))
        with context.drains():
            context.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.work, context, nursery.cancel_scope)
                await context.stopping.wait()
                nursery.cancel_scope.cancel()
        await context.stopping.wait()
        print("cleaned up", flush=True)

    async def work(self, context, done):
        await context.draining.wait()
        await trio.sleep(float(os.environ.get("WORK", "0")))
        done.cancel()


async def stuck():
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


class Blocker(Behaviour):
    """Blocks the loop for ever as soon as it is to drain."""

    async def serve(self, context):
        context.started()
        await context.draining.wait()
        self.handle_message()

    def handle_message(self):
        while True:
            time.sleep(0.01)


async def stall_for_a_while():
    await trio.sleep(0.2)
    time.sleep(float(os.environ["STALL"]))  # noqa: ASYNC251  (that is what it is about)
    await trio.sleep_forever()


async def fail():
    await trio.lowlevel.checkpoint()
    raise ValueError("no such table: job")


async def fail_when_told():
    with trio.open_signal_receiver(signal.SIGUSR1) as told:
        async for _ in told:
            raise ValueError("no such table: job")


async def leave():
    await trio.lowlevel.checkpoint()
    sys.exit(3)


async def start_a_thread_that_never_ends():
    threading.Thread(target=threading.Event().wait).start()
    await trio.sleep_forever()


async def send_a_signal_at_exit():
    atexit.register(print, "the program has ended by itself")
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)
    await trio.sleep_forever()


async def count_at_exit():
    atexit.register(lambda: print("left to collect:", gc.get_count()[0] < 10_000 < gc.get_freeze_count()))
    await trio.sleep_forever()


async def announce():
    print("path", current_context().path, flush=True)
    await trio.sleep_forever()


consumer = child(Consumer, id="consumer")
last = child(announce)
waits_for_stuck = Supervisor([child(stuck, shutdown=0.1), child(fail)], strategy="one_for_all")
SCENARIOS = {
    "consumer": [consumer, last],
    "stuck": [consumer, child(stuck), last],
    "stuck group": [consumer, child(waits_for_stuck, id="group"), last],
    "blocker": [consumer, child(Blocker, id="blocker"), last],
    "stall": [child(stall_for_a_while), last],
    "fail": [child(fail), last],
    "give up stuck": [consumer, child(stuck), child(fail_when_told), last],
    "leave": [consumer, child(leave), last],
    "leave stuck": [child(stuck), child(leave), last],
    "thread": [child(start_a_thread_that_never_ends), last],
    "count at exit": [child(count_at_exit), last],
    "signal at exit": [child(send_a_signal_at_exit), last],
}

if __name__ == "__main__":
    scenario = sys.argv[1]
    runtime = Runtime()
    runtime.events.subscribe(lambda event: print("seen:", event, flush=True), ChildStarted)
    run(Supervisor(SCENARIOS[scenario], intensity=0 if scenario.startswith("give up") else 3), runtime=runtime)
