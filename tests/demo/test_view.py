"""What a person sees."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from examples.rolling_deploy.audit import audit
from examples.rolling_deploy.events import Event, Kind
from examples.rolling_deploy.view import LiveView, Picture, PlainView, open_view, print_audit


def event(kind: Kind, mono: float, pod: str = "", job: str = "", step: str = "", epoch: int = 0, /, **detail: Any):
    return Event(kind, 0.0, mono, pod, job, step, 1, epoch, detail)


RUN = [
    event(Kind.ROLLOUT_STARTED, 1.0, version="2", revision=1),
    event(Kind.JOB_PUBLISHED, 1.0, "", "job-1"),
    event(Kind.JOB_PUBLISHED, 1.0, "", "job-2"),
    event(Kind.POD_STARTED, 1.5, "pod-1", version="1", pid=1, restarts=0),
    event(Kind.POD_READY, 2.0, "pod-1"),
    event(Kind.POD_AVAILABLE, 3.0, "pod-1"),
    event(Kind.OWNER_ACQUIRED, 3.0, "pod-1", "", "", 1),
    event(Kind.JOB_CLAIMED, 3.1, "pod-1", "job-1", "", 1),
    event(Kind.STEP_STARTED, 3.2, "pod-1", "job-1", "read", 1),
    event(Kind.STEP_RUN, 3.3, "pod-1", "job-1", "read", 1),
    event(Kind.JOB_RELEASED, 4.0, "pod-1", "job-1", "", 1),
    event(Kind.POD_STARTED, 4.0, "pod-2", version="2", pid=2, restarts=0),
    event(Kind.JOB_CLAIMED, 4.1, "pod-2", "job-1", "", 2),
    event(Kind.JOB_RESUMED, 4.1, "pod-2", "job-1", "tokenize", 2),
    event(Kind.STEP_RUN, 4.5, "pod-2", "job-1", "tokenize", 2),
    event(Kind.JOB_CLAIMED, 4.6, "pod-2", "job-2", "", 1),
    event(Kind.JOB_FINISHED, 5.0, "pod-2", "job-2", "", 1),
    event(Kind.ENTRY_APPLIED, 5.0, "pod-1", "job-2"),
    event(Kind.LOG, 5.0, "pod-2", line="chatter"),
]


@pytest.fixture
def picture() -> Picture:
    picture = Picture()
    for each in RUN:
        picture.take(each)
    return picture


def test_the_picture_of_a_run(picture):
    assert (picture.published, picture.finished, picture.applied) == (2, 1, 1)
    assert (picture.released, picture.resumed) == (1, 1)
    assert (picture.version, picture.rolling) == ("2", True)
    assert picture.pods["pod-1"].owner
    assert {name: pod.state for name, pod in picture.pods.items()} == {
        "pod-1": "available",
        "pod-2": "starting",
    }
    job = picture.running["job-1"]
    assert (job.pod, job.step, job.epoch, job.resumed) == ("pod-2", "tokenize", 2, True)
    assert picture.rate == pytest.approx(2 / 4.0)


def test_late_words_of_an_old_lease_do_not_change_the_picture(picture):
    picture.take(event(Kind.STEP_RUN, 6.0, "pod-1", "job-1", "parse", 1))
    picture.take(event(Kind.LEASE_LOST, 6.0, "pod-1", "job-1", "", 1))
    assert picture.running["job-1"].step == "tokenize"


def test_the_states_of_a_pod_that_goes(picture):
    states = []
    for kind in (Kind.TERMINATING, Kind.SIGTERM, Kind.POD_UNREADY, Kind.POD_EXIT, Kind.POD_GONE):
        picture.take(event(kind, 7.0, "pod-2", code=0))
        states.append(picture.pods["pod-2"].state)
    assert states == ["terminating", "draining", "draining", "draining", "gone"]
    assert picture.running == {}
    picture.advance(9.0)
    assert "pod-2" in picture.pods
    picture.advance(11.0)
    assert "pod-2" not in picture.pods
    assert picture.rate < 0.5


def test_faults_and_crashes_show(picture):
    for detail, state in [({"kind": "pause"}, "paused"), ({"kind": "kill"}, "killed")]:
        picture.take(event(Kind.FAULT, 7.0, "pod-1", **detail))
        assert picture.pods["pod-1"].state == state
    picture.take(event(Kind.POD_EXIT, 7.0, "pod-1", code=-9))
    picture.take(event(Kind.CRASH_LOOP, 7.0, "pod-1", delay=1.0))
    assert (picture.pods["pod-1"].state, picture.pods["pod-1"].owner) == ("crash loop", False)
    picture.take(event(Kind.POD_STARTED, 8.0, "pod-1", version="1", restarts=1))
    assert picture.pods["pod-1"].restarts == 1


def test_plain_lines():
    out = io.StringIO()
    with open_view(out) as view:
        assert isinstance(view, PlainView)
        view.show(RUN[:8], 4.0)
        view.show(RUN[8:], 5.0)
        view.show([], 20.0)
    lines = out.getvalue().splitlines()
    assert "   0.0  rolling out version 2" in lines
    assert "   3.1  job-1 goes on at tokenize in pod-2 (epoch 2)" in lines
    assert "   3.0  0 of 2 jobs counted, 1 under way, 0.0 steps/s" in lines
    assert lines[-1] == "  19.0  1 of 2 jobs counted, 1 under way, 0.0 steps/s"
    assert not any("chatter" in line for line in lines)
    assert "\x1b" not in out.getvalue()


def test_live_in_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=40)
    with LiveView(console) as view:
        view.show(RUN, 5.0)
        with console.capture() as captured:
            console.print(view.render())
    shown = captured.get()
    for words in ("version 2, rolling out", "1 of 2 jobs counted", "pod-1", "available", "aggregator", "tokenize"):
        assert words in shown


def test_words_of_a_pod_are_not_taken_for_markup():
    console = Console(file=io.StringIO(), width=120)
    view = LiveView(console)
    view.picture.take(event(Kind.JOB_FAILED, 1.0, "pod-1", "job-1", error="[/red] oops [bold]"))
    console.print(view.render())


def test_the_audit_is_printed():
    out = io.StringIO()
    print_audit(audit([], [], {}, {}, {}), out)
    assert "The audit does NOT hold." in out.getvalue()
