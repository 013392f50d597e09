"""The demo as it is run: whole, with real processes, on an input that is small enough for a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from examples.rolling_deploy.events import Event, EventTail, Kind, read_events
from examples.rolling_deploy.manifest import DEFAULT_MANIFEST
from examples.rolling_deploy.run import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BOUND = 180.0

SMALL = ("--jobs", "6", "--replicas", "2", "--lease", "2", "--expect-resumed", "1")
TINY = (*SMALL, "--work-factor", "4")


class Demo:
    """The demo in a process of its own; whatever it starts is in ``directory`` or knows of it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.report = directory / "report.json"
        self.events = directory / "events.jsonl"
        self.temporary = directory / "with a space, 100% and a ?"
        self.temporary.mkdir()
        manifest = directory / "deployment.yaml"
        text = DEFAULT_MANIFEST.read_text(encoding="utf-8")
        assert "minReadySeconds: 1" in text
        manifest.write_text(text.replace("minReadySeconds: 1", "minReadySeconds: 0"), encoding="utf-8")
        files = ("--report", str(self.report), "--events", str(self.events), "--manifest", str(manifest))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.rolling_deploy", *files, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            env={**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT)},
            process_group=0,
        )

    def end(self) -> tuple[int, str]:
        """The exit status, and everything it printed."""
        out, _ = self.process.communicate(timeout=BOUND)
        return self.process.returncode, out

    def holds(self) -> dict[str, Any]:
        """The report of a demo that must hold."""
        code, out = self.end()
        report: dict[str, Any] = json.loads(self.report.read_text(encoding="utf-8"))
        assert (code, report["problems"]) == (0, []), out
        assert "The audit holds." in out
        return report

    def fails(self) -> dict[str, Any]:
        """The report of a demo that must not hold."""
        code, out = self.end()
        report: dict[str, Any] = json.loads(self.report.read_text(encoding="utf-8"))
        assert code == 1, out
        assert "The audit does NOT hold." in out
        assert report["problems"]
        return report

    def wait_for(self, fits: Callable[[Event], bool]) -> None:
        """Wait until that has happened."""
        deadline = time.monotonic() + BOUND
        tail: EventTail | None = None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()[0]
            if tail is None and (found := list(self.temporary.glob("holdfast-demo-*/events.jsonl"))):
                tail = EventTail(found[0])
            if tail is not None and any(fits(event) for event in tail.poll()):
                return
            time.sleep(0.05)
        raise AssertionError("it did not happen")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*options: str) -> Demo:
        started.append(Demo(tmp_path, *options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def processes() -> dict[int, tuple[int, str]]:
    """All processes that run: parent and state by process id."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    rows = (line.split() for line in table.stdout.splitlines())
    return {int(pid): (int(parent), state) for pid, parent, state, *_ in rows if not state.startswith("Z")}


def offspring(ancestor: int) -> set[int]:
    """All processes below this one."""
    found, table = {ancestor}, processes()
    while more := {pid for pid, (parent, _) in table.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def wait_until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 20
    while left := pids & processes().keys():
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def test_a_run_that_holds(demo):
    run = demo(*SMALL, "--seed", "1")
    report = run.holds()
    assert (report["published"], report["completed"], report["lost"], report["dead"]) == (6, 6, 0, 0)
    assert (report["duplicate_effects"], report["totals_equal"]) == (0, True)
    assert (report["steps_repeated"], report["attempts_burnt_by_deploy"]) == (0, 0)
    assert report["jobs_resumed"] >= 1
    assert report["releases"] >= report["jobs_resumed"]
    assert report["steps_run"] == 6 * 9
    assert report["set_aside"] >= 1, "pods of version 2 met jobs of schema 2"
    assert (report["pods_started"], report["pods_killed_after_grace"]) == (6, 0)
    assert len(report["drain_ms"]) == 6
    assert len(report["handover_ms"]) >= report["releases"]
    assert {code for codes in report["exit_codes"].values() for code in codes} == {0}
    assert len(report["exit_codes"]) == 6
    assert report["seconds"] > 0
    assert report["seed"] == 1

    events = read_events(run.events)
    kinds = {event.kind for event in events}
    for kind in (Kind.POD_STARTED, Kind.SIGTERM, Kind.POD_EXIT, Kind.ROLLOUT_FINISHED, Kind.OWNER_ACQUIRED):
        assert kind in kinds
    for event in events:
        assert event.wall > 0
        assert event.mono > 0
        if event.kind in (Kind.JOB_CLAIMED, Kind.JOB_RESUMED, Kind.STEP_STARTED, Kind.STEP_RUN, Kind.JOB_FINISHED):
            assert event.pod
            assert event.job
            assert event.attempt >= 1
            assert event.epoch >= 1
        if event.kind in (Kind.JOB_RESUMED, Kind.STEP_STARTED, Kind.STEP_RUN):
            assert event.step
    versions = {event.pod: event.detail["version"] for event in events if event.kind is Kind.POD_STARTED}
    assert sorted(versions.values()) == ["1", "1", "2", "2", "3", "3"]
    schemas = {event.job: event.detail["schema"] for event in events if event.kind is Kind.JOB_PUBLISHED}
    for event in events:
        if event.kind is Kind.JOB_CLAIMED and schemas[event.job] == 2:
            assert versions[event.pod] == "3"
        if event.kind is Kind.JOB_SET_ASIDE:
            assert versions[event.pod] in ("1", "2")
    assert list(run.temporary.iterdir()) == [], "the run's directory is removed"


def test_killed_and_paused_pods(demo):
    report = demo(*SMALL, "--seed", "2", "--faults", "kill,pause", "--times", "1").holds()
    assert report["faults"] == {"kill": 1, "pause": report["faults"]["pause"]}
    assert report["faults"]["pause"] >= 1


def test_without_checkpoints_finished_steps_run_again(demo):
    report = demo(*TINY, "--without", "checkpoints").fails()
    assert report["steps_redone"] >= 2
    assert (report["lost"], report["totals_equal"]) == (0, True)


def test_without_ack_a_job_is_lost(demo):
    report = demo(*TINY, "--without", "ack").fails()
    assert report["lost"] >= 1
    assert not report["totals_equal"]


def test_without_fencing_a_job_is_counted_twice(demo):
    report = demo(*TINY, "--without", "fencing").fails()
    assert report["duplicate_effects"] >= 1
    assert (report["lost"], report["totals_equal"]) == (0, False)


def under_way(event: Event) -> bool:
    return event.kind is Kind.STEP_STARTED and event.step.startswith("compare")


def paused(event: Event) -> bool:
    return event.kind is Kind.FAULT and event.detail.get("kind") == "pause"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(demo, number):
    run = demo(*SMALL)
    run.wait_for(under_way)
    pids = offspring(run.process.pid)
    assert len(pids) >= 5, "two pods with their workers, and the guardian"
    run.process.send_signal(number)
    code, out = run.end()
    assert code == 128 + number
    assert "all pods are gone" in out
    assert "Traceback" not in out
    wait_until_gone(pids)
    assert list(run.temporary.iterdir()) == [], "the run's directory is removed"


@pytest.mark.parametrize("moment", [under_way, paused])
def test_nothing_outlives_a_demo_that_was_killed(demo, moment):
    run = demo(*TINY, *(("--without", "fencing") if moment is paused else ()))
    run.wait_for(moment)
    pids = offspring(run.process.pid)
    assert len(pids) >= 5
    run.process.kill()
    wait_until_gone(pids)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--faults", "kill,poison"), "--faults: 'poison' is none of term, kill, pause"),
        (("--jobs", "0"), "jobs must be at least 1, not 0"),
        (("--lease", "nan"), "--lease must be at least 1.0, not nan"),
        (("--manifest", os.devnull), "must hold one apps/v1 Deployment"),
        (("--report", "/no/such/directory/report.json"), "there is no directory /no/such/directory"),
        (("--with", "everything"), "unrecognized arguments: --with everything"),
    ],
)
def test_a_mistake_on_the_command_line(capsys, options, words):
    from examples.rolling_deploy.options import parse

    with pytest.raises(SystemExit) as refusal:
        parse(options)
    assert refusal.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 21))
def test_twenty_seeds(demo, seed):
    demo("--jobs", "16", "--expect-resumed", "1", "--seed", str(seed), "--faults", "kill,pause").holds()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_grace_in_which_no_step_can_finish(demo, seed):
    report = demo("--jobs", "16", "--expect-resumed", "1", "--seed", str(seed), "--grace", "0.5").holds()
    assert report["steps_repeated"] >= 1


@pytest.mark.soak
@pytest.mark.parametrize("protection", ["checkpoints", "ack", "fencing"])
@pytest.mark.parametrize("seed", range(1, 6))
def test_the_damage_is_certain(demo, protection, seed):
    demo("--jobs", "8", "--seed", str(seed), "--without", protection).fails()
