"""Containers that are real process groups: they end whole, and they end with the demo."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from examples.rolling_deploy.lifeline import LIFELINE_ENV, Lifeline, hold_on
from examples.rolling_deploy.probes import Verdict, http_get
from examples.rolling_deploy.processes import GroupLauncher, free_port

if TYPE_CHECKING:
    from pathlib import Path

# Every process of a pod holds the writing end of a named pipe, so that the end of the file proves the end of all.
WITNESS = """
import os, signal, subprocess, sys
witness = os.open(os.environ["WITNESS"], os.O_WRONLY)
os.set_inheritable(witness, True)
def child():
    code = "import sys; sys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, close_fds=False)
"""

# A pod with a child of its own; both would stay for ever.
FAMILY = (
    WITNESS
    + """
it = child()
os.write(witness, b"up")
it.wait()
"""
)


class Witness:
    """The reading end."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.env = {"WITNESS": str(path)}
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self, timeout: float = 60) -> bytes:
        """What comes next; nothing means that no process is left."""
        readable, _, _ = select.select([self.fd], [], [], timeout)
        assert readable, "nothing happened"
        return os.read(self.fd, 100)


@pytest.fixture
def witness(tmp_path):
    held = Witness(tmp_path / "witness")
    yield held
    os.close(held.fd)


@pytest.fixture
def lifeline():
    with Lifeline() as held:
        yield held


async def run(launcher, code, env=None):
    lines: list[str] = []
    async with launcher([sys.executable, "-c", code], env or {}, lines.append) as container:
        exit_code = await container.wait()
    return exit_code, lines


async def test_output_variables_and_exit_code(lifeline, tmp_path):
    launcher = GroupLauncher(lifeline, directory=tmp_path)
    code = "import os, sys; print(os.environ['A'], os.getcwd()); print('err', file=sys.stderr); sys.exit(3)"
    assert await run(launcher, code, {"A": "b c"}) == (3, [f"b c {tmp_path}", "err"])


async def test_last_words_without_a_line_feed_are_kept(lifeline):
    assert await run(GroupLauncher(lifeline), "print('bye', end='')") == (0, ["bye"])


async def test_a_container_is_its_own_group_and_ends_whole(lifeline, witness):
    launcher = GroupLauncher(lifeline)
    async with launcher([sys.executable, "-c", FAMILY], witness.env, print) as container:
        assert await trio.to_thread.run_sync(witness.read) == b"up"
        assert os.getpgid(container.pid) == container.pid
        container.send_signal(signal.SIGKILL)  # the first process alone
        assert await container.wait() == -signal.SIGKILL
        assert select.select([witness.fd], [], [], 0)[0] == []
    assert await trio.to_thread.run_sync(witness.read) == b""


async def test_what_cannot_be_started_is_an_error(lifeline):
    with pytest.raises(FileNotFoundError):
        async with GroupLauncher(lifeline)(["no-such-program-anywhere"], {}, print):
            pass


async def test_signalling_what_has_ended_does_nothing(lifeline):
    async with GroupLauncher(lifeline)([sys.executable, "-c", ""], {}, print) as container:
        assert await container.wait() == 0
        container.send_signal(signal.SIGTERM)
        container.signal_all(signal.SIGKILL)


# A demo that starts a pod which ignores everything; the test kills the demo.
DEMO = """
import sys, trio
from examples.rolling_deploy.lifeline import Lifeline
from examples.rolling_deploy.processes import GroupLauncher
async def main():
    with Lifeline() as lifeline:
        if {without_guardian}:
            lifeline._guardian.kill(), lifeline._guardian.wait()
        async with GroupLauncher(lifeline)([sys.executable, "-c", {pod!r}], {{}}, print) as it:
            await it.wait()
trio.run(main)
"""

HOLDING_ON = (
    WITNESS
    + """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from examples.rolling_deploy.lifeline import hold_on
assert hold_on()
it = child()
os.write(witness, b"up")
it.wait()
"""
)

STOPPED = (
    WITNESS
    + """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.write(witness, b"up")
os.kill(os.getpid(), signal.SIGSTOP)
signal.pause()
"""
)


@pytest.mark.parametrize(
    ("pod", "without_guardian"),
    [(HOLDING_ON, True), (STOPPED, False)],
    ids=["a pod that holds on", "a pod that is stopped"],
)
def test_nothing_outlives_a_demo_that_is_killed(witness, pod, without_guardian):
    code = DEMO.format(pod=pod, without_guardian=without_guardian)
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **witness.env}) as demo:
        assert witness.read() == b"up"
        demo.kill()
    assert witness.read() == b""


def test_without_a_lifeline_there_is_nothing_to_hold_on_to(monkeypatch):
    monkeypatch.delenv(LIFELINE_ENV, raising=False)
    assert hold_on() is False


@pytest.mark.parametrize("value", ["", "x", "99999"])
def test_a_lifeline_that_is_none_is_refused(monkeypatch, value):
    monkeypatch.setenv(LIFELINE_ENV, value)
    with pytest.raises(ValueError, match=LIFELINE_ENV):
        hold_on()


async def serve(answer: bytes, port: int, task_status) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        if answer:
            await stream.send_all(answer)
            await stream.aclose()
        else:
            await trio.sleep_forever()

    await trio.serve_tcp(handle, port, host="127.0.0.1", task_status=task_status)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"HTTP/1.1 404\r\n\r\n", False),
        (b"nonsense\r\n", False),
        (b"HTTP/1.1", False),
        (b"", False),
    ],
)
async def test_http_probe(nursery, answer, expected):
    port = free_port()
    await nursery.start(serve, answer, port)
    assert await http_get(port, "/readyz", 20 if answer else 0.05) is expected
    nursery.cancel_scope.cancel()


async def test_http_probe_where_nobody_listens():
    assert await http_get(free_port(), "/", 5) is False


def test_thresholds_count_results_in_a_row():
    verdict = Verdict(2, 3, standing=False)
    answers = [True, False, True, True, False, False, True, False, False, False, True, True]
    expected = [False, False, False, True, True, True, True, True, True, False, False, True]
    assert [verdict.record(success=answer) for answer in answers] == expected
