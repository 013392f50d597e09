"""Every event says in one line what happened, and costs nothing when nobody wants it."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pytest

import patterns
from otp import Runtime
from patterns import JobDone, JobRetried, PatternEvent
from patterns._tell import in_words, tell

EVENTS = [
    each
    for each in vars(patterns).values()
    if isinstance(each, type) and issubclass(each, PatternEvent) and not each.__subclasses__()
]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_it_is_one_line_without_its_path(kind):
    values = {
        field.name: {"str": f"<{field.name}>", "int": 3, "float": 0.25}[str(field.type)] for field in attrs.fields(kind)
    }
    text = str(kind(**values))
    assert "\n" not in text
    assert "<path>" not in text  # the log puts it in front
    assert kind.__name__ not in text  # words, not a repr


class FakeContext:
    path = "app/test"

    def __init__(self):
        self.runtime = Runtime()

    def emit(self, event):
        self.runtime.events.emit(event)


def context() -> Any:
    return FakeContext()


DETAILS: dict[str, Any] = {"queue": "q", "job": "j", "topic": "t", "attempt": 1, "epoch": 1}


def test_nobody_wants_it_so_it_is_not_made(monkeypatch):
    tell(context(), JobDone, nonsense=True)  # it would be refused


def test_subscribers_get_it_also_when_the_log_does_not():
    child = context()
    seen: list[Any] = []
    child.runtime.events.subscribe(seen.append, JobDone)
    tell(child, JobDone, **DETAILS, seconds=0.5)
    assert seen == [JobDone(path="app/test", **DETAILS, seconds=0.5)]


def test_the_log_has_the_line_the_event_and_at_debug_the_traceback(caplog):
    error = ValueError("two\nlines")
    with caplog.at_level(logging.DEBUG, "patterns"):
        tell(context(), JobRetried, cause=error, **DETAILS, delay=1.0, error=in_words(error))
    line, traceback = caplog.records
    assert line.levelno == logging.WARNING
    assert line.message.startswith(
        "app/test: job j (t, attempt 1) failed, to be tried again in 1 s: ValueError: two lines"
    )
    assert line.event.delay == 1.0
    assert traceback.exc_info[1] is error


def test_where_an_error_was_raised():
    def deep():
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        deep()
    assert in_words(caught.value).startswith("ValueError: boom (at test_events.py:")
    assert in_words(ValueError()) == "ValueError"
