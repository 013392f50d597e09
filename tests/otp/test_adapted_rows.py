"""Rows of OTP's supervisor_SUITE whose meaning had to be adapted: each docstring says how.

The number in a name is the row in the project's inventory; the rest is its case.
"""

import gc
import logging
import weakref
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    FailedToStart,
    GaveUp,
    Runtime,
    Shutdown,
    Stop,
    Supervisor,
    SupervisorDecided,
    child,
    open_supervisor,
    whereis,
)
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, Echo, boom, up
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def connection(opened):
    """An async context manager that yields something, as they do."""

    @asynccontextmanager
    async def connect(*arguments):
        opened.append(arguments)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_told, opened)
            yield f"connection {len(opened)}"
            nursery.cancel_scope.cancel()

    return connect


async def fail_when_told(opened):
    mine = len(opened)
    while len(opened) == mine:
        await trio.sleep(1)
        if opened[-1] == "fail":
            opened.pop()
            raise Boom


async def test_row_025_extra_return():
    """Adapted: the extra info of a start is what entering a context manager yields; nobody outside is given it.

    What others need to know of a child they ask it. The start counts as a success whatever is yielded, by request, and
    by an automatic restart.
    """
    opened: list[object] = []
    async with no_task_left(), open_supervisor(Supervisor([child(connection(opened), id="c")])) as supervisor:
        first = supervisor.ref("c")
        await supervisor.terminate_child("c")
        again = await supervisor.restart_child("c")
        assert again is supervisor.ref("c")
        assert again is not first
        opened.append("fail")
        await trio.sleep(3)
        assert supervisor.ref("c").alive
        assert supervisor.ref("c") is not again
        await supervisor.terminate_child("c")
        await supervisor.delete_child("c")
        assert up(await supervisor.start_child(child(connection([]), id="c"))).alive
    assert len(opened) == 3


async def test_row_037_simple_one_for_one_extra():
    """Adapted as row 25, for instances: those that yield something are restarted with their arguments."""
    opened: list[object] = []
    template = child(connection(opened), id="c")
    async with open_supervisor(Supervisor([template], strategy="simple_one_for_one")) as supervisor:
        before = up(await supervisor.start_instance("host", 5432))
        opened.append("fail")
        await trio.sleep(3)
        after = supervisor.ref(before.id)
        assert after is not before
        assert opened == [("host", 5432)] * 2


class Argument:
    pass


@pytest.mark.parametrize("way", [boom, lambda actor: actor.stop(), "terminate_child"])
async def test_row_039_simple_one_for_one_corruption(way):
    """Adapted: OTP once mixed up the arguments of instances when a temporary one had died. Nothing is left of one."""

    class Worker(Echo):
        def __init__(self, argument):
            self.argument = argument

    template = child(Worker, restart="temporary")
    async with open_supervisor(Supervisor([template], strategy="simple_one_for_one"), log=False) as supervisor:
        arguments = [Argument() for _ in range(3)]
        for argument in arguments:
            await supervisor.start_instance(argument)
        if way == "terminate_child":
            await supervisor.terminate_child("Worker:2")
        else:
            supervisor.ref("Worker:2").send(way)
        await wait_all_tasks_blocked()
        assert [info.id for info in supervisor.which_children()] == ["Worker:1", "Worker:3"]
        for number, argument in [(1, arguments[0]), (3, arguments[2])]:
            assert await supervisor.ref(f"Worker:{number}").call(lambda actor: actor.argument) is argument
        gone = weakref.ref(arguments[1])
        del arguments
        gc.collect()
        assert gone() is None


async def test_row_075_do_not_save_start_parameters_for_temporary_children():
    """Adapted: OTP keeps less of a temporary child that lives; here nothing of its spec is left when it has ended."""

    def spec(id_, restart):
        argument = Argument()
        return child(lambda: (argument, Echo())[1], id=id_, restart=restart), weakref.ref(argument)

    async with open_supervisor(Supervisor([]), log=False) as supervisor:
        temporary, forgotten = spec("t", "temporary")
        transient, kept = spec("k", "transient")
        for each in (temporary, transient):
            up(await supervisor.start_child(each)).send(lambda actor: actor.stop())
        await wait_all_tasks_blocked()
        del each, temporary, transient
        gc.collect()
        assert forgotten() is None
        assert kept() is not None


async def test_row_044_external_start_no_progress_log(caplog):
    """Adapted: an automatic restart is a decision of the supervisor, and a start by request is none: so they differ."""
    caplog.set_level(logging.INFO)
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Echo, id="a")]), runtime=runtime) as supervisor:
            await supervisor.start_child(child(Echo, id="b"))
            await supervisor.terminate_child("a")
            await supervisor.restart_child("a")
            assert events.of(SupervisorDecided) == []
            assert {record.levelno for record in caplog.records} == {logging.INFO}
            supervisor.ref("a").send(boom)
            await wait_all_tasks_blocked()
            decided = events.one(SupervisorDecided)
            assert decided.decision.verdict == "restart"
            (line,) = [record for record in caplog.records if getattr(record, "event", None) is decided]
            assert line.levelno == logging.WARNING
            assert line.getMessage() == "app: a crashed (Boom): restart [1 of 3 restarts in 5 s]"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one", "one_for_one"])
async def test_row_079_simple_global_supervisor(strategy):
    """Adapted: global names are those of the tree. They are free again when a supervisor and its children restart."""
    inner = Supervisor([child(Echo, id="worker", name="worker")], intensity=0)
    specs = [child(inner, id="sub", name="sub"), child(Echo, id="last", name="last")]
    async with open_supervisor(Supervisor(specs, strategy=strategy)) as root:
        for _ in range(2):
            before = {name: up(whereis(name)) for name in ("sub", "worker", "last")}
            before["worker"].send(boom)  # more than `sub` stands
            await wait_all_tasks_blocked()
            after = {name: whereis(name) for name in before}
            assert {name for name in before if after[name] is not before[name]} == (
                {"sub", "worker"} if strategy == "one_for_one" else {"sub", "worker", "last"}
            )
            assert all(ref is not None and ref.alive for ref in after.values())
        await root.terminate_child("sub")
        assert (whereis("sub"), whereis("worker")) == (None, None)


class Chatty(Actor):
    """Fails with a text that nobody wants in a log."""

    def __init__(self, *, in_init):
        self.in_init = in_init

    async def init(self):
        if self.in_init:
            self.crash()

    async def handle_message(self, message):
        if isinstance(message, Exception):
            raise message
        self.crash()

    def crash(self):
        raise Boom("no\nnewline \x1b[31mred\x07 " + "and so on " * 100_000)


def lines_of(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "otp" and r.exc_info is None]


def is_readable(line):
    return "\n" not in line and line.isprintable() and len(line) < 600


@pytest.mark.parametrize("in_init", [False, True])
async def test_row_089_format_log_1(in_init, caplog):
    """Adapted: not OTP's report terms, but the lines of a failure and all that follows: one line each, of bounded size.

    The whole text is in the traceback, which follows at DEBUG, and in the event.
    """
    caplog.set_level(logging.INFO)
    specs = [child(lambda: Chatty(in_init=in_init), id="a")]
    error = FailedToStart if in_init else GaveUp
    with pytest.raises(error):  # noqa: PT012
        async with open_supervisor(Supervisor(specs, intensity=0)) as supervisor:
            supervisor.ref("a").send("crash")
            await trio.sleep_forever()
    lines = lines_of(caplog)
    assert len(lines) >= 2
    assert all(is_readable(line) for line in lines), lines
    assert "crashed (Boom: no ...; at test_adapted_rows.py:" in "".join(lines)


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("my text has a mistake")


@pytest.mark.parametrize(
    ("ends_with", "shown"),
    [
        (Stop("a\nb" * 1000), "shutdown (a ...)"),
        (Stop(Shutdown(["x"] * 10_000)), "shutdown (shutdown (['x', "),
        (Boom("\x1b[31m" + "x" * 10_000), r"crashed (Boom: \x1b[31mxxx"),
        (Unspeakable(), "crashed (Unspeakable: Unspeakable that cannot be shown; at"),
        (ExceptionGroup("several\nthings", [Boom(), ValueError("y" * 10_000)]), "ExceptionGroup: several ..."),
    ],
)
async def test_row_090_format_log_2(ends_with, shown, caplog):
    """Adapted as row 89: whatever a child ends with, and whatever it is called, its lines stay lines."""
    caplog.set_level(logging.INFO)
    specs = [child(lambda: Chatty(in_init=False), id="odd\nid", restart="temporary")]
    async with open_supervisor(Supervisor(specs)) as supervisor:
        supervisor.ref("odd\nid").send(ends_with)
        await wait_all_tasks_blocked()
    lines = lines_of(caplog)
    assert all(is_readable(line) for line in lines), lines
    assert any(line.startswith(r"app/odd\nid #1 ended: ") and shown in line for line in lines), lines
