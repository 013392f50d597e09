"""The event file: whole lines, from many writers, whatever becomes of them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from examples.rolling_deploy.events import (
    Event,
    EventTail,
    EventWriter,
    Kind,
    event_now,
    read_events,
    write_events,
)

EVENT = Event(Kind.STEP_RUN, 1.5, 2.5, "pod-1", "job-1", "read", 2, 3, {"text": 'quote " {"kind":"log"} é\n'})


def test_there_and_back():
    assert Event.from_line(EVENT.to_line()) == EVENT
    assert EVENT.to_line().startswith('{"kind":"step_run",')
    assert "\n" not in EVENT.to_line()


def test_empty_fields_are_not_written():
    line = Event(Kind.LOG, 1.0, 2.0).to_line()
    assert json.loads(line) == {"kind": "log", "wall": 1.0, "mono": 2.0}


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"kind":"unheard"}', '{"kind":"log","odd":1}', "nonsense"])
def test_anything_else_is_refused(line):
    with pytest.raises(ValueError, match="not an event"):
        Event.from_line(line)


def test_a_writer_fills_in_its_pod_and_the_time(tmp_path):
    before = event_now(Kind.LOG)
    with EventWriter(tmp_path / "events", pod="pod-1") as writer:
        written = writer.emit(Kind.STEP_RUN, job="job-1", step="read", attempt=1, epoch=2, seconds=3)
    assert read_events(tmp_path / "events") == [written]
    assert (written.pod, written.job, written.epoch, written.detail) == ("pod-1", "job-1", 2, {"seconds": 3})
    assert written.mono >= before.mono
    assert written.wall >= before.wall - 1


def test_many_writers_never_mix_their_lines(tmp_path):
    path = tmp_path / "events"

    def write(pod: str) -> None:
        with EventWriter(path, pod=pod) as writer:
            for number in range(200):
                writer.emit(Kind.LOG, line="x" * number, number=number)

    threads = [threading.Thread(target=write, args=(f"pod-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = read_events(path)
    assert len(events) == 800
    assert {(event.pod, event.detail["number"]) for event in events} == {
        (f"pod-{pod}", number) for pod in range(4) for number in range(200)
    }


def test_what_was_written_survives_a_kill(tmp_path):
    path = tmp_path / "events"
    code = """
import os, signal, sys
from examples.rolling_deploy.events import EventWriter, Kind
writer = EventWriter(sys.argv[1], pod="pod-1")
for number in range(100):
    writer.emit(Kind.LOG, number=number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert [event.detail["number"] for event in read_events(path)] == list(range(100))


def test_the_stump_of_a_killed_writer_costs_nobody_else_a_line(tmp_path):
    path = tmp_path / "events"
    line = EVENT.to_line()
    path.write_text(line[:40] + line + "\n" + line + "\n" + line[:7])
    tail = EventTail(path)
    assert tail.poll() == [EVENT, EVENT]
    assert tail.stumps == 1
    with path.open("a") as file:
        file.write(line[7:] + "\n" + line[1:] + "\n")
    assert tail.poll() == [EVENT]
    assert tail.stumps == 2


def test_a_tail_sees_each_event_once(tmp_path):
    path = tmp_path / "events"
    tail = EventTail(path)
    assert tail.poll() == []
    with EventWriter(path) as writer:
        first = writer.emit(Kind.JOB_PUBLISHED, job="job-1")
        assert tail.poll() == [first]
        assert tail.poll() == []
        second = writer.emit(Kind.JOB_PUBLISHED, job="job-2")
    assert tail.poll() == [second]


def test_reading_orders_by_time_and_writing_replaces(tmp_path):
    path = tmp_path / "events"
    early, late = Event(Kind.LOG, 0.0, 1.0), Event(Kind.LOG, 0.0, 2.0)
    write_events(path, [late, early])
    assert read_events(path) == [early, late]
    write_events(path, [late])
    assert read_events(path) == [late]


def test_an_event_that_cannot_be_written_is_an_error(tmp_path):
    writer = EventWriter(tmp_path / "events")
    writer.close()
    writer.close()
    with pytest.raises(OSError, match="descriptor"):
        writer.write(EVENT)
