"""Worker processes: results, errors, cancellation, death, and that nothing of them is left behind."""

import functools
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from otp import (
    NotSendable,
    RemoteError,
    RemoteTraceback,
    Runtime,
    Supervisor,
    WorkerDied,
    WorkerEnded,
    WorkerProcesses,
    WorkersClosed,
    WorkerStarted,
    child,
    open_supervisor,
)

BOUND = 20.0


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(BOUND):
        while not condition():  # noqa: ASYNC110  (what it waits for happens in another process)
            await trio.sleep(0.005)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # Whoever adopts an orphan may be slow to collect it.
        return sys.platform == "linux" and ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return True


# Jobs. A worker imports this module to find them.


class Peculiar(Exception):
    """Pickles, and cannot be made again."""

    def __init__(self, code, *, why):
        super().__init__(f"{code}: {why}")


def divide(a, b):
    return a / b


def write_pid_and_burn(path):
    Path(path).write_text(str(os.getpid()))
    while True:
        pass


def write_pid_and_hold_the_gil(path):
    Path(path).write_text(str(os.getpid()))
    # Backtracks for longer than the universe is old, without ever letting another thread run.
    re.match(r"(a*)*b", "a" * 60)


def raise_peculiar():
    raise Peculiar(7, why="no reason")


def leave(code):
    sys.exit(code)


def crash_hard():
    os.kill(os.getpid(), signal.SIGSEGV)


def leave_a_mark_and_die(path):
    with Path(path).open("a") as marks:
        marks.write("x")
    os._exit(1)


def return_a_lock():
    import threading

    return threading.Lock()


async def an_async_function():
    """Not for workers."""


def signals_seen():
    return [signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGINT, signal.SIGTERM)], signal.pthread_sigmask(
        signal.SIG_BLOCK, ()
    )


PREPARED: list[int] = []


def prepare():
    PREPARED.append(os.getpid())


def prepared():
    return PREPARED


async def test_runs_a_function_and_reuses_the_process():
    events: list[Any] = []
    async with WorkerProcesses(2, on_event=events.append) as cpu:
        assert await cpu.run(divide, 6, 3) == 2
        first = await cpu.run(os.getpid)
        assert first != os.getpid()
        assert await cpu.run(os.getpid) == first
        assert await cpu.run(functools.partial(divide, b=4), 2) == 0.5
        assert cpu.statistics().idle == 1
        assert cpu.statistics().started == 1
        big = os.urandom(3_000_000)
        assert await cpu.run(bytes.__add__, big, b"!") == big + b"!"
    assert [type(event) for event in events] == [WorkerStarted, WorkerEnded]
    assert events[0].pid == events[1].pid == first
    assert (events[1].exitcode, events[1].cause) == (0, "closed")
    assert gone(first)


async def test_at_most_limit_at_once_and_prewarmed():
    async with WorkerProcesses(2, prewarm=True) as cpu:
        assert cpu.statistics().started == 2
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(cpu.run, divide, 1, 1)
            await until(lambda: cpu.statistics().busy == 2)
            assert cpu.statistics().waiting == 4
        assert cpu.statistics().started == 2


async def test_it_is_not_open_before_all_are_prewarmed():
    cpu = WorkerProcesses(1, prewarm=True)
    refused = 0

    async def be_early():
        nonlocal refused
        while True:
            try:
                await cpu.run(divide, 1, 1)
            except WorkersClosed:
                refused += 1
                await trio.sleep(0.005)
            else:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_early)
        await trio.sleep(0.01)
        async with cpu:
            assert await cpu.run(divide, 4, 2) == 2
            assert cpu.statistics().ended == 0
            await until(lambda: not nursery.child_tasks)
    assert refused > 0


async def test_init_runs_once_in_each_worker():
    async with WorkerProcesses(1, init=prepare) as cpu:
        pid = await cpu.run(os.getpid)
        assert await cpu.run(prepared) == [pid]
    assert PREPARED == []


async def test_what_the_function_raises_arrives_with_the_remote_traceback():
    async with WorkerProcesses(1) as cpu:
        with pytest.raises(ZeroDivisionError) as caught:
            await cpu.run(divide, 1, 0)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "return a / b" in str(caught.value.__cause__)
        assert "_worker.py" not in str(caught.value.__cause__)

        with pytest.raises(RemoteError, match="Peculiar: 7: no reason"):
            await cpu.run(raise_peculiar)
        with pytest.raises(RemoteError, match="SystemExit: 3"):
            await cpu.run(leave, 3)
        with pytest.raises(TypeError, match="is async"):
            _ = await cpu.run(an_async_function)
        assert cpu.statistics().started == 1, "none of this cost the worker its life"


async def test_what_cannot_travel_is_refused_clearly():
    async with WorkerProcesses(1) as cpu:
        with pytest.raises(NotSendable, match=r"<lambda> cannot be sent .* importable by name"):
            await cpu.run(lambda: 1)
        with pytest.raises(NotSendable, match="divide cannot be sent"):
            await cpu.run(divide, 1, iter(lambda: 1, 2))
        with pytest.raises(NotSendable, match="return_a_lock: its result, of type lock, cannot be pickled"):
            await cpu.run(return_a_lock)


async def test_a_worker_that_dies_is_named():
    events: list[Any] = []
    async with WorkerProcesses(1, on_event=events.append) as cpu:
        with pytest.raises(WorkerDied, match=r"died while it ran .*crash_hard \(killed by SIGSEGV\)") as caught:
            await cpu.run(crash_hard)
        assert caught.value.exitcode == -signal.SIGSEGV
        assert caught.value.pid == events[-1].pid
        assert events[-1].cause == "died"
        with pytest.raises(WorkerDied, match=r"os\._exit|posix\._exit") as caught:
            await cpu.run(os._exit, 9)
        assert caught.value.exitcode == 9
        assert await cpu.run(divide, 1, 1) == 1, "the next job gets a new process"


async def test_a_job_whose_worker_died_is_not_run_again(tmp_path):
    async with WorkerProcesses(1) as cpu:
        assert await cpu.run(divide, 1, 1) == 1  # so that the worker is not a fresh one
        with pytest.raises(WorkerDied):
            await cpu.run(leave_a_mark_and_die, tmp_path / "marks")
    assert (tmp_path / "marks").read_text() == "x"


async def test_a_worker_that_died_idle_is_replaced_unseen():
    async with WorkerProcesses(1) as cpu:
        pid = await cpu.run(os.getpid)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: gone(pid))
        assert await cpu.run(os.getpid) != pid
        assert cpu.statistics().ended == 1


async def test_a_worker_that_cannot_start_is_an_error_with_a_hint(capfd):
    with pytest.raises(WorkerDied, match=r"before it was ready .*__main__"):
        async with WorkerProcesses(1, init=functools.partial(divide, 1, 0), prewarm=True):
            pass
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("burn", [write_pid_and_burn, write_pid_and_hold_the_gil])
async def test_cancel_kills_the_process(burn, tmp_path):
    path = tmp_path / "pid"
    events: list[Any] = []
    async with WorkerProcesses(1, on_event=events.append) as cpu:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cpu.run, burn, path)
            await until(lambda: path.exists() and path.read_text() != "")
            nursery.cancel_scope.cancel()
        pid = int(path.read_text())
        assert gone(pid), "it is gone before the cancelled task goes on"
        assert events[-1] == WorkerEnded(path="", pid=pid, exitcode=-signal.SIGKILL, cause="cancelled")
        assert await cpu.run(divide, 1, 1) == 1


async def test_leaving_kills_what_runs_and_it_can_be_entered_again(tmp_path):
    cpu = WorkerProcesses(1)
    with pytest.raises(WorkersClosed, match="not open"):
        await cpu.run(divide, 1, 1)
    path = tmp_path / "pid"
    closed = []

    async def burn():
        try:
            await cpu.run(write_pid_and_burn, path)
        except WorkersClosed as error:
            closed.append(str(error))

    async with trio.open_nursery() as nursery:
        async with cpu:
            nursery.start_soon(burn)
            nursery.start_soon(burn)  # waits for the only process
            await until(lambda: path.exists() and path.read_text() != "")
        assert gone(int(path.read_text()))
    assert len(closed) == 2
    assert "before" in closed[0]

    async with cpu:
        assert await cpu.run(divide, 4, 2) == 2
        with pytest.raises(RuntimeError, match="already open"):
            await cpu.__aenter__()


async def test_as_a_supervised_child_it_survives_its_restart():
    cpu = WorkerProcesses(1)
    events: list[Any] = []
    runtime = Runtime()
    runtime.events.subscribe(events.append, WorkerStarted, WorkerEnded)
    tree = Supervisor([child(lambda: cpu, id="cpu")])
    async with open_supervisor(tree, runtime=runtime) as supervisor:
        assert await cpu.run(divide, 1, 1) == 1
        await supervisor.terminate_child("cpu")
        with pytest.raises(WorkersClosed):
            await cpu.run(divide, 1, 1)
        await supervisor.restart_child("cpu")
        assert await cpu.run(divide, 1, 1) == 1
    assert [(type(event), event.path) for event in events] == [(WorkerStarted, "app/cpu"), (WorkerEnded, "app/cpu")] * 2


async def test_a_worker_leaves_group_signals_to_the_parent():
    async with WorkerProcesses(1) as cpu:
        ignored, mask = await cpu.run(signals_seen)
        assert ignored == [True, True]
        assert not mask & {signal.SIGINT, signal.SIGTERM}
        os.kill(await cpu.run(os.getpid), signal.SIGTERM)
        assert await cpu.run(divide, 1, 1) == 1
        assert cpu.statistics().ended == 0
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "our own mask is as it was"


GROUP_SIGNAL = """
import os, signal, trio
from otp._processes import WorkerProcesses
async def main():
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    async with WorkerProcesses(1) as cpu, trio.open_nursery() as nursery:
        async def bother():
            while True:
                os.killpg(0, signal.SIGINT)
                os.killpg(0, signal.SIGTERM)
                await trio.sleep(0.002)
        nursery.start_soon(bother)
        print(await cpu.run(os.getpid) != os.getpid(), cpu.statistics().ended)
        nursery.cancel_scope.cancel()
if __name__ == "__main__":
    trio.run(main)
"""


def test_group_signals_do_not_hit_a_worker_that_is_just_starting(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(GROUP_SIGNAL)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("True 0\n", "")


NOT_LEFT = """
import os, trio
from otp import WorkerProcesses
async def main():
    cpu = WorkerProcesses(1)
    await cpu.__aenter__()
    print(await cpu.run(os.getpid) != os.getpid())
if __name__ == "__main__":
    trio.run(main)
"""


def test_workers_that_were_never_left_do_not_keep_the_interpreter_from_ending(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(NOT_LEFT)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("True\n", "", 0)


PARENT = """
import sys, trio
from tests.otp import test_processes
from otp._processes import WorkerProcesses
async def main():
    async with WorkerProcesses(1) as cpu:
        await cpu.run(getattr(test_processes, sys.argv[1]), sys.argv[2])
if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.parametrize(
    "burn",
    [
        "write_pid_and_burn",
        pytest.param(
            "write_pid_and_hold_the_gil",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills what holds the GIL"),
        ),
    ],
)
def test_a_burning_worker_dies_with_a_parent_that_was_killed(burn, tmp_path):
    script, path = tmp_path / "script.py", tmp_path / "pid"
    script.write_text(PARENT)
    path_of_ours = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    parent = subprocess.Popen([sys.executable, script, burn, path], env={**os.environ, "PYTHONPATH": path_of_ours})
    try:
        deadline = time.monotonic() + BOUND
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < deadline
            assert parent.poll() is None
            time.sleep(0.005)
        pid = int(path.read_text())
        assert not gone(pid)
    finally:
        parent.kill()
        parent.wait()
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "2"])
def test_refuses_a_bad_limit(limit):
    with pytest.raises(ValueError, match="limit must be .*" + re.escape(repr(limit))):
        WorkerProcesses(limit)


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan])
def test_refuses_a_bad_timeout(timeout):
    with pytest.raises(ValueError, match="start_timeout"):
        WorkerProcesses(1, start_timeout=timeout)
