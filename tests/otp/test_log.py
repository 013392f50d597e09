"""The log is for reading: who started, who crashed with what and where, what was decided, how full the window is."""

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import Backoff, GaveUp, Supervisor, child, open_supervisor
from otp._unwrap import unwrap
from tests.otp.actors import Boom, Echo, boom
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


async def test_a_crash_reads_well(caplog):
    caplog.set_level(logging.INFO)
    backoff = Backoff(initial=2.0, jitter=0.0)
    specs = [child(Echo, id="a"), child(Echo, id="b", backoff=backoff)]
    with pytest.raises(GaveUp):  # noqa: PT012
        async with open_supervisor(Supervisor(specs, intensity=1, period=60)) as supervisor:
            supervisor.ref("b").send(boom)
            await trio.sleep(3)
            supervisor.ref("a").send(boom)
            await trio.sleep_forever()
    lines = [f"{r.levelname} {r.getMessage()}" for r in caplog.records if r.name == "otp"]
    where = lines[2].partition("; at ")[2]
    assert where.startswith("actors.py:")
    assert where.endswith(" in boom)")
    assert lines == [
        "INFO app/a #1 started",
        "INFO app/b #2 started",
        f"WARNING app/b #2 ended: crashed (Boom; at {where}",
        "WARNING app: b crashed (Boom): restart in 2 s [0 of 1 restarts in 60 s]",
        "WARNING app: b crashed (Boom): try again to restart [1 of 1 restarts in 60 s]",
        "INFO app/b #3 started",
        f"WARNING app/a #1 ended: crashed (Boom; at {where}",
        "ERROR app: a crashed (Boom): give up [2 of 1 restarts in 60 s]",
        "INFO app/b #3 stopped: shutdown",
    ]


@pytest.mark.parametrize(
    ("shutdown", "line"),
    [
        (5.0, "INFO app/slow #1 stopped: shutdown"),
        (1.0, "WARNING app/slow #1 stopped too late: killed"),
        ("brutal", "INFO app/slow #1 stopped: killed"),
    ],
)
async def test_who_did_not_stop_in_its_time_is_a_warning_and_brutal_is_what_was_wanted(shutdown, line, caplog):
    """OTP's ``shutdown_error``."""

    class Slow(Echo):
        async def terminate(self, reason):
            await trio.sleep(3)

    caplog.set_level(logging.INFO)
    async with open_supervisor(Supervisor([child(Slow, id="slow", shutdown=shutdown)])):
        pass
    assert f"{caplog.records[-1].levelname} {caplog.records[-1].getMessage()}" == line


async def test_the_traceback_follows_at_debug_and_the_event_is_in_the_record(caplog):
    caplog.set_level(logging.DEBUG)
    async with open_supervisor(Supervisor([child(Echo, restart="temporary")])) as supervisor:
        supervisor.ref("Echo").send(boom)
        await wait_all_tasks_blocked()
    (traceback,) = [r for r in caplog.records if r.exc_info]
    assert traceback.levelname == "DEBUG"
    assert isinstance(traceback.exc_info[1], Boom)
    assert all(hasattr(r, "event") for r in caplog.records if r.name == "otp")


async def test_a_state_and_a_message_that_cannot_be_shown_do_not_end_the_log(caplog):
    """The log was taken for a broken subscriber, and nothing more was written of the whole tree."""

    class HalfMade:
        def __repr__(self):
            raise AttributeError("not there yet")

    class Holds(Echo):
        async def init(self):
            self.half = HalfMade()

        async def handle_message(self, message):
            raise Boom

    caplog.set_level(logging.DEBUG)
    async with open_supervisor(Supervisor([child(Holds)])) as supervisor:
        supervisor.ref("Holds").send(HalfMade())
        await wait_all_tasks_blocked()
    lines = [r.getMessage() for r in caplog.records if r.name == "otp"]
    assert lines[1] == (
        "app/Holds #1 crashed while handling <a HalfMade whose repr failed: AttributeError: not there yet>; "
        "its state: <a dict whose repr failed: AttributeError: not there yet>"
    )
    assert lines[-1] == "app/Holds #2 stopped: shutdown"


async def test_without_log_nothing_is_written(caplog):
    caplog.set_level(logging.DEBUG)
    async with open_supervisor(Supervisor([child(Echo, restart="temporary")]), log=False) as supervisor:
        supervisor.ref("Echo").send(boom)
        await wait_all_tasks_blocked()
    assert [r for r in caplog.records if r.name == "otp"] == []


async def three_nurseries_down():
    async with trio.open_nursery() as one:

        @one.start_soon
        async def inner():
            async with trio.open_nursery() as two:

                @two.start_soon
                async def innermost():
                    raise Boom("deep")


async def test_unwrap_takes_the_one_exception_out_and_keeps_the_whole_way_there():
    with pytest.raises(BaseExceptionGroup) as caught:
        await three_nurseries_down()
    error = unwrap(caught.value)
    assert type(error) is Boom
    names = []
    traceback = error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert [n for n in names if n in ("three_nurseries_down", "inner", "innermost")] == [
        "three_nurseries_down",
        "inner",
        "innermost",
    ]
    assert unwrap(caught.value) is error  # looked at again: no ring
    assert unwrap(error) is error


async def test_unwrap_leaves_a_group_of_several_alone():
    group = ExceptionGroup("two", [Boom(), Boom()])
    assert unwrap(group) is group
    assert unwrap(ExceptionGroup("outer", [group])) is group


async def test_the_reason_of_a_crash_in_a_nursery_is_the_exception_itself():
    with pytest.raises(GaveUp) as gave_up:
        async with open_supervisor(Supervisor([child(three_nurseries_down)], intensity=0)):
            await trio.sleep_forever()
    assert type(gave_up.value.__cause__) is Boom
