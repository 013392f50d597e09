"""`run` in real processes with real signals: exit codes, what is said, and that the process always ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("run_scenarios.py")
ROOT = PROGRAM.parents[2]
BOUND = 60.0


class Process:
    def __init__(self, scenario, **environ):
        environ = {
            "HOLDFAST_PROBES": "127.0.0.1:0",
            "HOLDFAST_STALL_LIMIT": "60",
            "HOLDFAST_WARN_AFTER": "0.2",
            **environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, scenario],
            env={**kept, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def wait_for(self, text):
        """Read lines until there is one with `text`; the bound is that of pytest's faulthandler."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"no {text!r} in\n{''.join(self.lines)}")

    def signal(self, number=signal.SIGTERM):
        self.signalled = time.monotonic()
        self.process.send_signal(number)

    def end(self):
        """The exit code, and everything it printed."""
        out, _ = self.process.communicate(timeout=BOUND)
        self.seconds = time.monotonic() - getattr(self, "signalled", 0)
        return self.process.returncode, "".join(self.lines) + out

    def probe(self, path):
        address = re.search(r"http://([\d.:]+)/", "".join(self.lines))
        assert address is not None
        try:
            with urllib.request.urlopen(f"http://{address[1]}{path}", timeout=BOUND) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(number):
    with Process("consumer") as process:
        process.wait_for("path app/announce")
        assert process.probe("/livez")[0] == 200
        assert process.probe("/readyz") == (200, {"ok": True, "reasons": []})
        assert process.probe("/startupz")[0] == 200
        process.signal(number)
        code, out = process.end()
    assert code == 0
    assert f"asked to stop by {number.name}: 25.0 s left" in out
    assert "cleaned up" in out
    assert "leases released" not in out, "that is for the end by force"
    assert "Traceback" not in out


def test_a_subscriber_of_the_runtime_that_was_passed_hears_of_the_first_start():
    with Process("consumer") as process:
        process.wait_for("path app/announce")
        process.signal()
        code, out = process.end()
    assert code == 0
    assert "seen: ChildStarted(path='app/consumer', incarnation=1," in out


def test_while_it_drains_it_is_live_and_not_ready_and_a_second_signal_cuts_that_short():
    with Process("consumer", WORK="1000", HOLDFAST_GRACE="500") as process:
        process.wait_for("path app/announce")
        process.signal()
        process.wait_for("draining")
        assert process.probe("/livez")[0] == 200
        status, body = process.probe("/readyz")
        assert (status, body["reasons"]) == (503, ["shutting down: draining", "draining"])
        process.signal()
        code, out = process.end()
    assert code == 75
    assert "given back: app/consumer" in out
    assert "cleaned up" in out
    assert process.seconds < 30


def test_a_stuck_child_does_not_keep_the_process_and_leases_are_released():
    with Process("stuck", HOLDFAST_GRACE="3") as process:
        process.wait_for("path app/announce")
        process.signal()
        code, out = process.end()
    assert code == 75
    assert "leases released" in out
    assert "not stopped within the grace time of 3 s: the process exits now, with code 75" in out
    assert re.search(r"still stopping; these have not ended: .*app/stuck", out)
    assert process.seconds < 30


def test_a_stuck_child_ends_the_process_with_1_though_nobody_has_sent_a_signal_if_the_settings_say_so():
    with Process("stuck group", HOLDFAST_GRACE="2", HOLDFAST_ON_STUCK="stop") as process:
        code, out = process.end()
    assert code == 1
    assert "asked to stop by on_stuck (app/group/stuck): 2.0 s left" in out
    assert "leases released" in out
    assert "the process exits now, with code 1" in out
    assert re.search(r"still stopping; these have not ended: .*app/group/stuck \(stuck\)", out)


def test_a_blocked_loop_does_not_keep_the_process_and_its_blocker_is_named():
    with Process("blocker", HOLDFAST_GRACE="3") as process:
        process.wait_for("path app/announce")
        process.signal()
        code, out = process.end()
    assert code == 75
    assert "leases released" in out
    assert re.search(r"the loop is blocked, for .* s so far.*, by app/blocker in .*Blocker\.serve", out)
    assert re.search(r"the loop is blocked: app/blocker in .*\n(.*\n)*.*in Blocker\.handle_message", out)


def test_a_third_signal_ends_it_at_once():
    with Process("blocker", HOLDFAST_GRACE="500") as process:
        process.wait_for("path app/announce")
        process.signal()
        process.wait_for("the loop is blocked")
        process.signal()
        while process.process.poll() is None:
            process.signal(signal.SIGINT)
            time.sleep(0.05)  # two signals at once count as one
        code, out = process.end()
    assert code == 75
    assert "leases released" in out
    assert "asked for the third time" in out


def test_giving_up_exits_with_1_and_the_cause():
    with Process("fail") as process:
        code, out = process.end()
    assert code == 1
    assert "ValueError: no such table: job" in out
    assert "stopped, exit code 1" in out


@pytest.mark.parametrize("first", ["give up", "signal"])
def test_giving_up_exits_with_1_and_in_time_also_when_a_signal_comes_before_or_after(first):
    with Process("give up stuck", HOLDFAST_GRACE="4", WORK="100") as process:
        process.wait_for("path app/announce")
        process.signal(signal.SIGUSR1 if first == "give up" else signal.SIGTERM)
        begun = process.signalled
        process.wait_for("stopping" if first == "give up" else "draining")
        time.sleep(1.0)
        process.signal(signal.SIGTERM if first == "give up" else signal.SIGUSR1)
        code, out = process.end()
    assert code == 1
    assert "ValueError: no such table: job" in out
    assert time.monotonic() - begun < 4.0 + 1.0, "the first of both counts"
    if first == "give up":
        assert "draining" not in out, "it was stopping already"


def test_sys_exit_in_a_child_is_what_it_says():
    with Process("leave") as process:
        code, out = process.end()
    assert code == 3
    assert "cleaned up" in out, "the others were stopped in order"


def test_sys_exit_in_a_child_ends_the_process_although_another_is_stuck():
    with Process("leave stuck", HOLDFAST_GRACE="2") as process:
        code, out = process.end()
    assert code == 1
    assert "these have not ended: app/stuck" in out


def test_a_signal_while_the_interpreter_ends_changes_nothing():
    with Process("signal at exit") as process:
        process.wait_for("path app/announce")
        process.signal()
        code, out = process.end()
    assert code == 0
    assert "the program has ended by itself" in out


def test_the_last_collection_has_next_to_nothing_to_do():
    with Process("count at exit") as process:
        process.wait_for("path app/announce")
        process.signal()
        code, out = process.end()
    assert code == 0
    assert "left to collect: True" in out


def test_a_thread_that_never_ends_does_not_keep_the_process():
    with Process("thread", HOLDFAST_GRACE="3") as process:
        process.wait_for("path app/announce")
        process.signal()
        code, out = process.end()
    assert code == 0
    assert "stopped, exit code 0" in out
    assert "stopped, but the interpreter does not end; threads: MainThread, Thread-" in out
    assert "not ended within the grace time of 3 s: the process exits now, with code 0" in out


def test_after_a_long_stall_it_says_for_a_while_that_it_is_not_live():
    with Process("stall", STALL="2", HOLDFAST_STALL_LIMIT="1.5") as process:
        process.wait_for("by app/stall_for_a_while")
        status, body = process.probe("/livez")  # answered only when the stall is over
        assert status == 503
        assert "stalled" in body["reasons"][0]
        process.wait_for("the loop runs again")
        process.signal()
        code, _ = process.end()
    assert code == 0


def test_a_taken_probe_port_is_a_clear_failure():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Process("consumer", HOLDFAST_PROBES=f"127.0.0.1:{port}") as process:
            code, out = process.end()
    assert code == 1
    assert f"cannot serve the probes on 127.0.0.1:{port}: Address already in use" in out
    assert "path app" not in out, "nothing was started"


def test_an_unknown_setting_is_a_clear_failure():
    with Process("consumer", HOLDFAST_GRACEFUL="1") as process:
        code, out = process.end()
    assert code == 1
    assert "ValueError: HOLDFAST_GRACEFUL is no setting; there are HOLDFAST_GRACE, " in out
