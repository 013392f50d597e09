"""OTP's gen_server tests, as far as they define behaviour of ours.

Some are beside other tests of their subject: calls in test_call.py and test_deferred.py, requests in test_pending.py,
continue and idle timeouts in test_continue_and_idle.py, aliases in test_aliases.py, format_status in test_inspect.py.

`test_gen_server_<case>`: the case of gen_server_SUITE that it is the counterpart of.
"""

import math

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    ActorCrashed,
    ChildExited,
    ChildIgnored,
    Crashed,
    FailedToStart,
    Ignore,
    InitTimeout,
    NameTaken,
    Normal,
    NotAlive,
    Runtime,
    Shutdown,
    Stop,
    Supervisor,
    child,
    current_context,
    host,
    open_supervisor,
    send,
    whereis,
)
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, Echo, boom, up
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


@pytest.mark.parametrize("name", [None, "the name"])
async def test_gen_server_start(name):
    async with open_supervisor(Supervisor([])) as supervisor:
        ref = up(await supervisor.start_child(child(Echo, id="a", name=name)))
        assert await ref.call("hello") == "hello"
        if name is not None:
            assert whereis(name) is ref
        await supervisor.terminate_child("a")
        with pytest.raises(NotAlive):
            await ref.call("hello")


# The ways to start an actor, as OTP has start, start_link and start_monitor. Each says with what the start has failed,
# None if the actor was left out, and leaves nothing behind.


async def by_request(supervisor, spec):
    try:
        assert await supervisor.start_child(spec) is None
    except FailedToStart as failed:
        return failed.reason
    return None


async def with_its_supervisor(supervisor, spec):
    try:
        await supervisor.start_child(child(Supervisor([spec]), id="sub", restart="temporary"))
    except FailedToStart as failed:
        return failed.root
    assert supervisor.supervisor("sub").which_children() == []
    await supervisor.terminate_child("sub")
    return None


async def as_an_instance(supervisor, spec):
    template = attrs.evolve(spec, name=None)
    simple = Supervisor([template], strategy="simple_one_for_one")
    await supervisor.start_child(child(simple, id="sub", restart="temporary"))
    try:
        assert await supervisor.supervisor("sub").start_instance() is None
    except FailedToStart as failed:
        return failed.reason
    finally:
        assert supervisor.supervisor("sub").which_children() == []
        await supervisor.terminate_child("sub")
    return None


async def once_more(supervisor, spec):
    await supervisor.change(Supervisor([attrs.evolve(spec, restart="permanent")]))
    try:
        assert await supervisor.restart_child(spec.id) is None
    except FailedToStart as failed:
        return failed.reason
    finally:
        assert [each.status for each in supervisor.which_children()] == ["stopped"]
        await supervisor.delete_child(spec.id)
    return None


async def as_a_guest(supervisor, spec):
    runtime = supervisor.runtime
    with capture_events(runtime) as events:
        try:
            reason = await host(current_context(), spec)
        except Exception as error:  # noqa: BLE001  (a guest's crash is raised)
            return Crashed(error)
    return None if events.of(ChildIgnored) else reason


WAYS = [by_request, with_its_supervisor, as_an_instance, once_more, as_a_guest]


@pytest.mark.parametrize("way", [each for each in WAYS if each is not as_an_instance])  # instances have no names
async def test_gen_server_start_is_refused_when_somebody_has_the_name(way):
    async with open_supervisor(Supervisor([child(Echo, id="sub", name="the name")])) as root:
        holder = root.ref("sub")
        await root.start_child(child(Supervisor([]), id="supervisor"))
        reason = await way(root.supervisor("supervisor"), child(Echo, id="b", name="the name", restart="temporary"))
        assert isinstance(reason.exception, NameTaken)
        assert str(reason.exception) == "the name 'the name' is held by app/sub"
        assert whereis("the name") is holder
        assert holder.alive


def raising(error):
    class Raising(Echo):
        async def init(self):
            raise error

    return Raising


class Hanging(Echo):
    async def init(self):
        await trio.sleep_forever()


BOOM, EXIT = Boom(), ExceptionGroup("several", [Boom(), Boom()])

FAILURES = {
    "stop": (raising(Stop("not today")), lambda reason: reason == Shutdown("not today")),
    "stop normal": (raising(Stop()), lambda reason: reason == Normal()),
    "ignore": (raising(Ignore()), lambda reason: reason is None),
    "error": (raising(BOOM), lambda reason: reason.exception is BOOM),
    "exit": (raising(EXIT), lambda reason: reason.exception is EXIT),
    "bad value": (lambda: None, lambda reason: isinstance(reason.exception, TypeError)),
    "init timeout": (Hanging, lambda reason: isinstance(reason.exception, InitTimeout)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", FAILURES)
async def test_gen_server_loop_start_fail(how, way):
    start, expected = FAILURES[how]
    spec = child(start, id="a", name="reused", init_timeout=1.0, restart="temporary")
    async with no_task_left(), open_supervisor(Supervisor([]), log=False) as supervisor:
        for _ in range(5):
            assert expected(await way(supervisor, spec))
            assert whereis("reused") is None
            assert supervisor.which_children() == []


@pytest.mark.parametrize("error", [Ignore(), Stop("x"), Boom()], ids=repr)
async def test_gen_server_otp_7669_the_name_is_free_when_the_start_returns(error):
    async with open_supervisor(Supervisor([])) as supervisor:
        for i in range(100):
            try:
                await supervisor.start_child(child(raising(error), id=f"a{i}", name="n", restart="temporary"))
            except FailedToStart:
                pass
            assert whereis("n") is None


async def test_the_name_is_free_before_anybody_hears_of_the_exit():
    runtime = Runtime()
    holders = []
    runtime.events.subscribe(lambda _: holders.append(runtime.registry.get("n")), ChildExited)
    async with open_supervisor(Supervisor([child(Echo, name="n", restart="temporary")]), runtime=runtime) as supervisor:
        supervisor.ref("Echo").send(boom)
        await wait_all_tasks_blocked()
    assert holders[0] is None


def one_echo(**options):
    return open_supervisor(Supervisor([child(Echo, id="a", name="a", restart="temporary", **options)]))


async def stopped_twice(ref, stop):
    """`stop` ends the actor; to do it again, or to call it, finds nobody."""
    stop()
    await wait_all_tasks_blocked()
    assert not ref.alive
    with pytest.raises(NotAlive):
        stop()
    with pytest.raises(NotAlive):
        await ref.call("x")


async def test_gen_server_stop1_the_supervisor_stops_it_and_a_second_time_finds_it_stopped():
    async with open_supervisor(Supervisor([child(Echo, id="a", name="a")])) as supervisor:
        ref = supervisor.ref("a")
        await supervisor.terminate_child("a")
        await supervisor.terminate_child("a")
        for send_it in (lambda: send("a", "x"), lambda: ref.send("x")):
            with pytest.raises(NotAlive):
                send_it()


@pytest.mark.parametrize("reason", [Normal(), Shutdown(), Shutdown("other")], ids=str)
async def test_gen_server_stop2_with_a_reason(reason):
    runtime = Runtime()
    spec = Supervisor([child(Echo, id="a", restart="temporary")])
    with capture_events(runtime) as events:
        async with open_supervisor(spec, runtime=runtime) as supervisor:
            ref = supervisor.ref("a")
            await stopped_twice(ref, lambda: ref.send(lambda a: a.stop(reason)))
    assert events.one(ChildExited).reason == reason


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, "soon"])
async def test_gen_server_stop3_an_invalid_time_for_the_stop_is_refused(seconds):
    with pytest.raises(ValueError, match="shutdown must be a finite number of seconds >= 0"):
        child(Echo, shutdown=seconds)


async def test_gen_server_stop4_by_name():
    async with one_echo() as supervisor:
        await stopped_twice(supervisor.ref("a"), lambda: send("a", lambda a: a.stop()))


async def test_gen_server_stop7_via_the_registry():
    async with one_echo() as supervisor:
        found = whereis("a")
        assert found is supervisor.ref("a")
        await stopped_twice(found, lambda: found.send(lambda a: a.stop()))
        assert whereis("a") is None


async def test_gen_server_crash(caplog):
    runtime = Runtime()
    spec = child(Echo, id="a", restart="temporary")
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([spec]), runtime=runtime) as supervisor:
            for end in (lambda a: a.stop(), lambda a: a.stop(Shutdown("x"))):
                supervisor.ref("a").send(end)
                await wait_all_tasks_blocked()
                assert [r for r in caplog.records if r.levelname == "WARNING"] == []
                assert events.of(ActorCrashed) == []
                await supervisor.start_child(spec)
            supervisor.ref("a").send(lambda a: setattr(a, "total", 3))
            with pytest.raises(NotAlive):
                await supervisor.ref("a").call(boom)
    lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(lines) == 2
    assert lines[0].startswith("app/a #3 ended: crashed (Boom; at actors.py:")
    assert lines[1] == "app: a crashed (Boom): forget it [0 of 3 restarts in 5 s]"
    report = events.one(ActorCrashed)
    assert (report.path, report.state, report.message, report.caller) == ("app/a", {"total": 3}, boom, "app")


async def test_gen_server_cast_comes_in_order_and_to_nobody_is_an_error_at_once():
    """OTP drops a cast to nobody without a word; here the sender learns it, and may ignore it."""
    async with open_supervisor(Supervisor([child(Echo, id="a", name="a")])) as supervisor:
        seen = []
        for i in range(3):
            send("a", lambda _, i=i: seen.append(i))
        await supervisor.ref("a").call("done")
        assert seen == [0, 1, 2]
        with pytest.raises(NotAlive):
            send("nobody", "x")


async def test_gen_server_cast_fast_never_blocks():
    async with open_supervisor(Supervisor([child(Echo)])) as supervisor:
        ref = supervisor.ref("Echo")
        ref.send(lambda _: trio.sleep_forever())  # noqa: ASYNC105
        for i in range(9_000):
            ref.send(i)
        with pytest.raises(NotAlive):
            send("nobody", "x")


async def test_gen_server_info_stop_from_it():
    class Server(Actor):
        async def handle_message(self, message):
            self.stop(Shutdown(message))

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Server, restart="temporary")]), runtime=runtime) as supervisor:
            supervisor.ref("Server").send("enough")
            await wait_all_tasks_blocked()
    assert events.of(ChildExited)[0].reason == Shutdown("enough")


class Nothing(Actor):
    """Overrides nothing."""


async def test_gen_server_undef_init_is_fine():
    """OTP crashes, as every gen_server has an init; here there is nothing to do for an actor that needs none."""
    async with no_task_left(), open_supervisor(Supervisor([child(Nothing)])) as supervisor:
        assert supervisor.ref("Nothing").alive


async def test_gen_server_undef_terminate1_stopped_by_itself():
    class Leaves(Actor):
        async def handle_message(self, message):
            self.stop()

    assert await exit_of(Leaves, lambda ref: ref.send("go")) == Normal()


async def test_gen_server_undef_terminate2_stopped_by_its_supervisor():
    async with no_task_left(), open_supervisor(Supervisor([child(Nothing)])) as supervisor:
        await supervisor.terminate_child("Nothing")


async def exit_of(actor, use):
    """Why the actor ended after `use(ref)`; None if it did not."""
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(actor, id="a", restart="temporary")]), runtime=runtime) as root:
            result = use(root.ref("a"))
            if result is not None:
                with pytest.raises(NotAlive):
                    await result
            await wait_all_tasks_blocked()
            exits = events.of(ChildExited)
            return exits[0].reason if exits else None


async def test_gen_server_undef_handle_call_crashes_with_a_clear_reason_that_the_caller_sees():
    reason = await exit_of(Nothing, lambda ref: ref.call("what?"))
    assert "Nothing does not handle calls: it got 'what?'" in str(reason)


async def test_gen_server_undef_handle_cast_is_only_a_warning(caplog):
    """There is one callback for casts and for info, and OTP's milder rule, that of info, is the rule for both."""
    assert await exit_of(Nothing, lambda ref: ref.send("what?")) is None
    assert "app/a got a message that it does not handle: 'what?'" in caplog.text


async def test_gen_server_undef_handle_info_the_server_lives():
    async with open_supervisor(Supervisor([child(Nothing)])) as supervisor:
        supervisor.ref("Nothing").send("what?")
        await wait_all_tasks_blocked()
        assert supervisor.ref("Nothing").alive


async def test_gen_server_undef_in_handle_info_is_not_swallowed():
    class Server(Actor):
        async def handle_message(self, message):
            self.no_such_method()  # type: ignore[attr-defined]

    reason = await exit_of(Server, lambda ref: ref.send("x"))
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, AttributeError)


async def test_gen_server_undef_in_terminate():
    class Server(Echo):
        async def terminate(self, reason):
            self.no_such_method()  # type: ignore[attr-defined]

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Server)]), runtime=runtime):
            pass
    reason = events.of(ChildExited)[0].reason
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, AttributeError)


@pytest.mark.parametrize("name", [None, "the parent"])
async def test_gen_server_spec_init_local_registered_parent_terminate_runs_and_needs_no_trap_exit(name):
    seen = []

    class Server(Echo):
        async def terminate(self, reason):
            seen.append(reason)

    parent = Supervisor([child(Server, shutdown="infinity", init_timeout=math.inf)])
    async with open_supervisor(Supervisor([child(parent, id="parent", name=name)])):
        assert name is None or whereis(name) is not None
    assert seen == [Shutdown()]


async def test_gen_server_spec_init_global_registered_parent():
    """A name is known in the whole tree, so there is one kind only."""
    await test_gen_server_spec_init_local_registered_parent_terminate_runs_and_needs_no_trap_exit("the parent")
