"""The watchdog, in real time: the loop is really blocked, by milliseconds where that is enough."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import trio

from otp import Supervisor, child, open_supervisor
from otp._culprit import find_culprit
from otp._watchdog import LoopStalled, Watchdog

BOUND = 20.0


async def until(condition):
    with trio.fail_after(BOUND):
        while not condition():  # noqa: ASYNC110  (what it waits for happens in a thread)
            await trio.sleep(0.005)


def block_until(condition):
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def logged(caplog, about=""):
    lines = [record.getMessage() for record in caplog.records if record.name == "otp.watchdog"]
    return [line for line in lines if about in line]


def by(path, events):
    """The stall by the child at `path`; on a busy machine there may be others."""
    return next((event for event in events if event.path == path), None)


class Clumsy:
    async def handle_message(self, caplog):
        await trio.lowlevel.checkpoint()
        block_until(lambda: logged(caplog, "Clumsy"))


async def test_names_the_child_and_the_handler_that_block_the_loop(caplog):
    events: list[LoopStalled] = []

    async def clumsy():
        await Clumsy().handle_message(caplog)

    with Watchdog(warn_after=0.05, on_stall=events.append) as watchdog:
        async with open_supervisor(Supervisor([child(clumsy, restart="temporary")])):
            await until(lambda: by("app/clumsy", events))
        assert watchdog.statistics().stalls >= 1
        assert watchdog.stalled_for() < BOUND
    event = by("app/clumsy", events)
    assert event is not None
    assert event.handler is not None
    assert event.handler.endswith("clumsy")
    assert event.seconds >= 0.05
    assert "block_until" in event.stack
    assert "unrolled_run" not in event.stack
    pattern = r"the loop is blocked, for \d+\.\d+ s so far.*, by app/clumsy in \S*clumsy\n(.*\n)*.*handle_message"
    assert any(re.match(pattern, line) for line in logged(caplog)), "logged at once, with the stack"
    assert logged(caplog)[-1].startswith("the loop runs again, after ")


async def test_names_the_child_also_when_a_helper_task_of_it_blocks(caplog):
    events: list[LoopStalled] = []

    async def helper():
        block_until(lambda: logged(caplog, "helper"))

    async def parent():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)

    with Watchdog(warn_after=0.05, on_stall=events.append):
        async with open_supervisor(Supervisor([child(parent, restart="temporary")])):
            await until(lambda: by("app/parent", events))
    assert str(by("app/parent", events)).count("helper")


async def test_a_stall_beyond_the_limit_counts_for_a_while_after_its_end(caplog):
    with Watchdog(warn_after=0.02, stall_limit=0.1) as watchdog:
        assert watchdog.why_not_alive() is None
        block_until(lambda: caplog.records and caplog.records[-1].levelno == logging.ERROR)
        assert "has been stalled" in str(watchdog.why_not_alive())
        await until(lambda: watchdog.statistics().stalls)
        assert watchdog.statistics().worst > 0.1
        assert "just now" in str(watchdog.why_not_alive())
        await until(lambda: watchdog.why_not_alive() is None)


async def test_is_quiet_and_cheap_while_the_loop_waits(caplog):
    started = time.thread_time()
    watchdog = Watchdog(warn_after=10, stall_limit=10)
    watchdog._pause = 0.01  # ask often, and be patient: what is measured is the asking
    with watchdog:
        assert find_culprit(-1).stack == ""
        [thread] = [t for t in threading.enumerate() if t.name == "holdfast watchdog"]
        for _ in range(20):
            due = watchdog._due
            await until(lambda: watchdog._due != due)  # noqa: B023
    assert not thread.is_alive()
    assert logged(caplog) == []
    assert time.thread_time() - started < 1


async def test_leaves_in_the_middle_of_a_stall(caplog):
    with Watchdog(warn_after=0.02):
        block_until(lambda: logged(caplog))


PAUSED = """
import os, sys, time, trio, logging
from otp._watchdog import Watchdog
logging.basicConfig(stream=sys.stdout, format="%(message)s")
async def main():
    seen = trio.Event()
    def report(event):
        if event.seconds > 0.5:  # on a busy machine there may be others
            print(event.path, flush=True)
            seen.set()
    with Watchdog(warn_after=0.1, on_stall=report):
        print("up", flush=True)
        await seen.wait()
trio.run(main)
"""


def test_a_paused_process_blames_nobody(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PAUSED)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while process.stdout.readline() != "up\n":
                assert process.poll() is None
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(1)  # it is the time that it is about
            os.kill(process.pid, signal.SIGCONT)
            out, _ = process.communicate(timeout=BOUND)
            assert process.returncode == 0
        finally:
            process.kill()
    assert "the whole process was paused" in out
    assert out.endswith("None\n")


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), True, "1"])
@pytest.mark.parametrize("argument", ["warn_after", "stall_limit"])
def test_refuses_bad_times(argument, bad):
    with pytest.raises(ValueError, match=f"{argument} must be"):
        Watchdog(**{argument: bad})


def test_refuses_a_limit_below_the_warning():
    with pytest.raises(ValueError, match="stall_limit must be at least warn_after, 2, not 1"):
        Watchdog(warn_after=2, stall_limit=1)
