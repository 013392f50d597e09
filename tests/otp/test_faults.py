"""Faults that a test asks for: crashes now, and faults that wait for their moment."""

import math
from contextlib import asynccontextmanager

import pytest
import trio

from otp import (
    Behaviour,
    ChildNotFound,
    FailedToStart,
    Ignore,
    NotAlive,
    Runtime,
    Stop,
    Supervisor,
    child,
    current_context,
    open_supervisor,
)
from otp.testing import Faults, Injected, advance, capture_events, crash, find, no_task_left, outline, refuse, settle
from tests.otp.actors import Boom, Echo, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


async def task():
    await trio.sleep_forever()


@asynccontextmanager
async def context():
    yield


class Plain(Behaviour):
    async def serve(self, context):
        context.started()
        await context.stopping.wait()


KINDS = {"actor": Echo, "task": task, "context": context, "plain": Plain}
FOUR = [child(start, id=id_) for id_, start in KINDS.items()]


@asynccontextmanager
async def running(*specs, faults=None, **options):
    """A tree with faults in it; yields its root and its events."""
    app = Supervisor(specs, **options)
    runtime = Runtime()
    with capture_events(runtime) as events:
        tree = app if faults is None else faults.around(app)
        async with no_task_left(), open_supervisor(tree, runtime=runtime) as root:
            yield root, events


# -- now


@pytest.mark.parametrize("kind", KINDS)
async def test_crash_now(kind):
    async with running(*FOUR) as (root, events):
        events.clear()
        crash(root.ref(kind), Boom("now"))
        await settle()
        assert events.lines() == [f"ended app/{kind}: crashed (Boom: now)", f"started app/{kind}"]


async def test_crash_in_the_middle_of_a_handler():
    async with running(child(Echo, id="a")) as (root, events):
        root.ref("a").send(sleeps(1000))
        await advance(1)
        crash(root.ref("a"))
        with pytest.raises(NotAlive) as caught:
            await root.ref("a").call(1)
        assert isinstance(caught.value.__cause__, Injected)
        assert "ended app/a: crashed (Injected: into app/a)" in events.lines()


async def test_a_supervisor_has_no_crash_of_its_own():
    async with running(child(Supervisor([]), id="sub")) as (root, _):
        with pytest.raises(TypeError, match="app/sub is a supervisor"):
            crash(root.ref("sub"))


# -- at the start


@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_starts_fail(kind):
    faults = Faults()
    async with running(*FOUR, faults=faults, intensity=10) as (root, events):
        events.clear()
        faults.at(f"app/{kind}", "start", Boom, times=3)
        crash(root.ref(kind))
        await settle()
        failed = f"failed app/{kind}: crashed (Boom)"
        assert events.lines()[1:] == [failed, failed, failed, f"started app/{kind}"]
        assert faults.waiting == []


async def test_a_start_fails_for_ever():
    faults = Faults()
    faults.at("app/b", "start", Boom, times=math.inf)
    with pytest.raises(FailedToStart, match="'b' failed to start"):
        async with running(child(Echo, id="a"), child(Echo, id="b"), faults=faults):
            raise AssertionError
    assert len(faults.waiting) == 1
    faults.clear()
    async with running(child(Echo, id="a"), child(Echo, id="b"), faults=faults) as (root, _):
        assert outline(root) == ["a running", "b running"]


async def test_a_child_that_is_not_needed():
    faults = Faults()
    faults.at("app/a", "start", Ignore)
    async with running(child(Echo, id="a"), faults=faults) as (root, events):
        assert events.lines() == ["ignored app/a"]
        await root.restart_child("a")
        assert events.lines()[1:] == ["started app/a"]


@pytest.mark.parametrize("kind", ["actor", "context", "plain"])
async def test_an_init_that_hangs(kind):
    faults = Faults()
    faults.at(f"app/{kind}", "start", trio.sleep_forever)
    with pytest.raises(FailedToStart, match=r"did not start within its init_timeout of 30 s"):
        async with running(*FOUR, faults=faults):
            raise AssertionError


async def test_a_task_that_was_to_do_something_else_first():
    faults = Faults()
    faults.at("app/task", "start", trio.sleep_forever)
    async with running(*FOUR, faults=faults) as (root, events):
        crash(root.ref("task"))  # its own coroutine has not begun, and nobody complains
        await settle()
        assert events.lines()[-1] == "started app/task"


# -- messages and calls


async def test_the_nth_message_and_those_after_it():
    faults = Faults()
    seen = []
    async with running(child(Echo, id="a"), faults=faults) as (root, events):
        faults.at("app/a", "message", Boom, nth=3, times=2)
        for i in range(6):
            root.ref("a").send(lambda _, i=i: seen.append(i))
            await settle()
        assert seen == [0, 1, 4, 5]
        assert [line for line in events.lines() if "crashed" in line] == ["ended app/a: crashed (Boom)"] * 2


async def test_a_normal_exit_and_a_call_that_hangs():
    faults = Faults()
    faults.at("app/a", "message", Stop)
    faults.at("app/a", "call", trio.sleep_forever)
    async with running(child(Echo, id="a", shutdown=1.0), faults=faults) as (root, events):
        root.ref("a").send("x")
        await settle()
        assert events.lines() == ["started app/a", "ended app/a: normal", "started app/a"]
        with pytest.raises(TimeoutError):
            await root.ref("a").call(1)


async def test_faults_for_the_same_moment_are_counted_apart():
    faults = Faults()
    faults.at("app/a", "message", Stop("second"), nth=2)
    faults.at("app/a", "message", Stop("first"))
    async with running(child(Echo, id="a"), faults=faults) as (root, events):
        for _ in range(3):
            root.ref("a").send(lambda _: None)
            await settle()
        ended = [line for line in events.lines() if line.startswith("ended")]
        assert ended == ["ended app/a: shutdown (first)", "ended app/a: shutdown (second)"]


# -- stopping


@pytest.mark.parametrize("kind", KINDS)
async def test_a_child_that_refuses_to_stop(kind):
    faults = Faults()
    faults.at(f"app/{kind}", "stop", refuse(60.0))
    async with running(*FOUR, faults=faults) as (root, events):
        events.clear()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root.terminate_child, kind)
            await advance(20)
            assert f"{kind} stuck" in outline(root)
        assert trio.current_time() - began == pytest.approx(60)
        assert events.lines() == [f"stuck app/{kind}", f"stopped app/{kind}: killed"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_while_it_stops(kind):
    faults = Faults()
    faults.at(f"app/{kind}", "stop", Boom)
    async with running(*FOUR, faults=faults) as (root, events):
        await root.terminate_child(kind)
        assert events.lines()[-1] == f"stopped app/{kind}: crashed (Boom)"


# -- everywhere in a tree


async def test_faults_reach_nested_and_dynamic_children_and_instances():
    faults = Faults()
    deep = Supervisor([child(Echo, id="a")])
    pool = Supervisor([child(lambda *args: Echo(), id="w")], strategy="simple_one_for_one")
    app = [child(deep, id="deep"), child(lambda: deep, id="made"), child(pool, id="pool")]
    async with running(*app, faults=faults) as (root, events):
        await root.start_child(faults.around(child(Echo, id="added")))
        with pytest.raises(TypeError, match="start cannot be called with"):
            await root.start_child(faults.around(child(lambda needs: None, id="x")))
        worker = await root.supervisor("pool").start_instance(1, 2)
        assert worker is not None
        for path in ("deep/a", "made/a", "added", "pool/w:1"):
            faults.at(f"app/{path}", "message", Boom)
            events.clear()
            find(root, path).send(lambda _: None)
            await settle()
            assert events.lines() == [f"ended app/{path}: crashed (Boom)", f"started app/{path}"]


async def test_what_is_around_a_child_changes_nothing_else():
    spec = child(Echo, name="x", shutdown=1.0, restart="transient")
    around = Faults().around(spec)
    assert (around.id, around.name, around.shutdown, around.restart) == ("Echo", "x", 1.0, "transient")
    async with running(around) as (root, _):
        assert await root.ref("Echo").call(lambda actor: actor.context.path) == "app/Echo"
        assert await root.ref("Echo").call(5) == 5
        root.ref("Echo").send(lambda actor: actor.stop())
        await settle()
        assert outline(root) == ["Echo stopped"]


async def test_what_is_no_child_is_refused_as_without_faults():
    with pytest.raises(FailedToStart, match=r"the start of child 'app/a' returned 5"):
        async with running(child(lambda: 5, id="a"), faults=Faults()):
            raise AssertionError


async def test_bad_arguments_are_refused():
    faults = Faults()
    with pytest.raises(ValueError, match="moment must be one of 'start', 'message', 'call', 'stop', not 'end'"):
        faults.at("app/a", "end", Boom)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nth must be a whole number >= 1, not 0"):
        faults.at("app/a", "start", Boom, nth=0)
    with pytest.raises(ValueError, match=r"times must be a whole number >= 1, not 1\.5"):
        faults.at("app/a", "start", Boom, times=1.5)
    with pytest.raises(TypeError, match="fault must be an exception or an async function, not 'x'"):
        faults.at("app/a", "start", "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seconds must be a finite number of seconds >= 0, not -1"):
        refuse(-1)
    assert faults.waiting == []


# -- the way about in a tree


async def test_find_and_outline():
    sub = Supervisor([child(Echo, id="x"), child(Echo, id="y", restart="transient")])
    async with running(child(sub, id="sub"), child(lambda: sub, id="made"), child(task)) as (root, _):
        assert find(root, "task").path == "app/task"
        assert find(root, "made/x").path == "app/made/x"
        find(root, "sub/y").send(lambda actor: actor.stop())
        await settle()
        assert outline(root) == [
            "sub running",
            "sub/x running",
            "sub/y stopped",
            "made running",
            "made/x running",
            "made/y running",
            "task running",
        ]
        with pytest.raises(NotAlive, match="app/sub/y"):
            find(root, "sub/y")
        with pytest.raises(ChildNotFound):
            find(root, "sub/z")
        with pytest.raises(TypeError, match="app/task is not a supervisor"):
            find(root, "task/x")


async def test_advance_lets_happen_what_falls_due_at_the_end():
    done = []

    async def in_time():
        await trio.sleep(5)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        done.append(current_context().path)
        await trio.sleep_forever()

    async with running(child(in_time)):
        await advance(4.9)
        assert done == []
        await advance(0.1)
        assert done == ["app/in_time"]
        with pytest.raises(ValueError, match="seconds must be a finite number of seconds >= 0, not -1"):
            await advance(-1)
