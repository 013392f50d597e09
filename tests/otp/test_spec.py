"""Specs and exit reasons: values that are checked when they are made."""

import gc
import math
import weakref
from functools import partial

import pytest

from otp._exit import Crashed, ExitReason, Ignore, Killed, Normal, Shutdown, Stop, describe, is_normal_class
from otp._mailbox_spec import Mailbox
from otp._protocol import AddChild
from otp._spec import Backoff, Supervisor, child


async def work() -> None: ...


async def needy(argument: int) -> None: ...


class Worker: ...


def test_the_id_is_the_name_of_what_is_started():
    assert child(work).id == "work"
    assert child(Worker).id == "Worker"
    assert child(lambda: None, id="x").id == "x"


@pytest.mark.parametrize("nameless", [lambda: None, partial(work), Supervisor([])])
def test_what_has_no_name_needs_an_id(nameless):
    with pytest.raises(ValueError, match="id is needed"):
        child(nameless)


def test_defaults():
    worker, subtree = child(work), child(Supervisor([]), id="s")
    assert (worker.shutdown, worker.init_timeout, worker.mailbox) == (5.0, 30.0, Mailbox(10_000))
    assert (subtree.shutdown, subtree.init_timeout) == ("infinity", math.inf)
    assert (worker.is_supervisor, subtree.is_supervisor) == (False, True)
    supervisor = Supervisor([])
    assert (supervisor.strategy, supervisor.intensity, supervisor.period) == ("one_for_one", 3, 5.0)
    assert child(work) == child(work)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": ""}, "id must be a string"),
        ({"id": "a/b"}, "has no '/' in it, not 'a/b'"),
        ({"id": 3}, "id must be a string"),
        ({"name": ""}, "name must be a string"),
        ({"restart": "always"}, "one of 'permanent', 'transient', 'temporary', not 'always'"),
        ({"shutdown": -1}, r'seconds >= 0, "brutal" or "infinity", not -1'),
        ({"shutdown": math.nan}, "shutdown"),
        ({"shutdown": math.inf}, "shutdown"),
        ({"shutdown": True}, "shutdown"),
        ({"shutdown": "soon"}, "not 'soon'"),
        ({"init_timeout": 0}, "seconds > 0 or math.inf, not 0"),
        ({"init_timeout": math.nan}, "init_timeout"),
        ({"init_timeout": "5"}, "init_timeout"),
        ({"mailbox": 0}, "whole number >= 1, not 0"),
        ({"mailbox": 1.5}, "mailbox"),
        ({"mailbox": True}, "mailbox"),
    ],
)
def test_bad_options_of_a_child_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        child(work, **options)


def test_what_cannot_be_started_is_refused():
    with pytest.raises(TypeError, match=r"pass work, not work\(\)"):
        child(work())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="wrap an object in a lambda"):
        child(Worker(), id="w")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword"):
        child(work, restrat="permanent")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="backoff must be a Backoff or None, not 3"):
        child(work, backoff=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "one_for_two"}, "strategy must be one of"),
        ({"intensity": -1}, "intensity must be a whole number >= 0, not -1"),
        ({"intensity": 1.0}, "intensity"),
        ({"intensity": True}, "intensity"),
        ({"period": 0}, "period must be a finite number of seconds > 0, not 0"),
        ({"period": math.inf}, "period"),
        ({"period": "5"}, "period"),
        ({"strategy": "simple_one_for_one", "children": []}, "exactly one child, the template, not 0"),
        ({"children": [child(work), child(work)]}, "different ids, but 'work' is there twice"),
        ({"strategy": "simple_one_for_one", "children": [child(work, name="n")]}, "cannot all be 'n'"),
    ],
)
def test_bad_supervisors_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Supervisor(**{"children": [], **options})


def test_children_must_be_specs_that_can_be_started():
    with pytest.raises(TypeError, match=r"what child\(\) returns"):
        Supervisor([work])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="child 'needy': start cannot be called without arguments"):
        Supervisor([child(needy)])
    with pytest.raises(TypeError, match="without arguments"):
        AddChild(child(needy))
    with pytest.raises(TypeError, match=r"what child\(\) returns"):
        AddChild(work)  # type: ignore[arg-type]
    assert Supervisor([child(needy)], strategy="simple_one_for_one").children[0].id == "needy"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": -1}, "initial"),
        ({"factor": 0.5}, "factor must be a finite number >= 1, not 0.5"),
        ({"factor": math.inf}, "factor"),
        ({"cap": math.nan}, "cap"),
        ({"initial": 5.0, "cap": 1.0}, r"cap must not be less than initial \(5\), not 1.0"),
        ({"jitter": 1.5}, "jitter must be a finite number from 0 to 1, not 1.5"),
        ({"reset_after": True}, "reset_after"),
    ],
)
def test_bad_backoffs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Backoff(**options)


def test_exit_reasons_read_well():
    reasons: list[ExitReason] = [Normal(), Shutdown(), Shutdown("done"), Killed(), Crashed(ValueError("bad"))]
    assert [str(reason) for reason in reasons] == [
        "normal",
        "shutdown",
        "shutdown (done)",
        "killed",
        "crashed (ValueError: bad)",
    ]
    assert [is_normal_class(reason) for reason in reasons] == [True, True, True, False, False]
    assert describe(ValueError()) == "ValueError"
    assert describe(ValueError("one\ntwo")) == "ValueError: one ..."


def test_crashes_are_equal_when_they_are_the_same_exception():
    error = ValueError("bad")
    assert Crashed(error) == Crashed(error)
    assert Crashed(error) != Crashed(ValueError("bad"))


def test_a_child_ends_itself():
    assert Stop().exit_reason() == Normal()
    assert Stop("enough").exit_reason() == Shutdown("enough")
    assert str(Stop("enough")) == "enough"
    assert issubclass(Ignore, Exception)


def test_a_start_is_not_kept_by_having_been_looked_at():
    class Big:
        def make(self):
            return self

    big = Big()
    Supervisor([child(lambda big=big: big.make(), id="closure"), child(partial(Big.make, big), id="partial")])
    gone = weakref.ref(big)
    del big
    gc.collect()
    assert gone() is None
