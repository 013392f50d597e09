"""OTP's gen_server tests, as far as they define behaviour of ours. Rows about calls are in test_call.py.

`test_gen_server_<case>`: the case of gen_server_SUITE that it is the counterpart of.
"""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    ChildExited,
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
    open_supervisor,
    send,
    whereis,
)
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, Echo, boom
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


@pytest.mark.parametrize("name", [None, "the name"])
async def test_gen_server_start(name):
    async with open_supervisor(Supervisor([])) as supervisor:
        ref = await supervisor.start_child(child(Echo, id="a", name=name))
        assert ref is not None
        assert await ref.call("hello") == "hello"
        if name is not None:
            assert whereis(name) is ref
            with pytest.raises(FailedToStart) as failed:
                await supervisor.start_child(child(Echo, id="b", name=name))
            assert isinstance(failed.value.__cause__, NameTaken)
            assert "held by app/a" in str(failed.value.__cause__)
        await supervisor.terminate_child("a")
        with pytest.raises(NotAlive):
            await ref.call("hello")


def raising(error):
    class Raising(Echo):
        async def init(self):
            raise error

    return Raising


class Hanging(Echo):
    async def init(self):
        await trio.sleep_forever()


FAILURES = {
    "stop": (raising(Stop("not today")), lambda reason: reason == Shutdown("not today")),
    "stop normal": (raising(Stop()), lambda reason: reason == Normal()),
    "error": (raising(Boom()), lambda reason: isinstance(reason.exception, Boom)),
    "exit": (raising(trio.TrioInternalError()), lambda reason: isinstance(reason, Crashed)),
    "bad value": (lambda: None, lambda reason: isinstance(reason.exception, TypeError)),
    "init timeout": (Hanging, lambda reason: isinstance(reason.exception, InitTimeout)),
}


@pytest.mark.parametrize("how", FAILURES)
async def test_gen_server_loop_start_fail(how):
    start, expected = FAILURES[how]
    async with no_task_left(), open_supervisor(Supervisor([])) as supervisor:
        for _ in range(5):
            with pytest.raises(FailedToStart) as failed:
                await supervisor.start_child(child(start, id="a", name="reused", init_timeout=1.0))
            assert expected(failed.value.reason)
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


async def test_gen_server_stop():
    async with open_supervisor(Supervisor([child(Echo, id="a", name="a")])) as supervisor:
        await supervisor.terminate_child("a")
        await supervisor.terminate_child("a")
        with pytest.raises(NotAlive):
            send("a", "x")


async def test_gen_server_crash(caplog):
    async with open_supervisor(Supervisor([child(Echo, id="a", restart="temporary")])) as supervisor:
        for end in (lambda a: a.stop(), lambda a: a.stop(Shutdown("x"))):
            supervisor.ref("a").send(end)
            await wait_all_tasks_blocked()
            assert [r for r in caplog.records if r.levelname == "WARNING"] == []
            await supervisor.start_child(child(Echo, id="a", restart="temporary"))
        supervisor.ref("a").send(boom)
        await wait_all_tasks_blocked()
    lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(lines) == 2
    assert lines[0].startswith("app/a #3 ended: crashed (Boom; at actors.py:")
    assert lines[1] == "app: a crashed (Boom): forget it [0 of 3 restarts in 5 s]"


async def test_gen_server_cast_never_blocks():
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


async def test_gen_server_undef_init_and_undef_terminate_are_fine():
    class Nothing(Actor):
        pass

    async with no_task_left(), open_supervisor(Supervisor([child(Nothing)])):
        pass


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


async def test_gen_server_terminate_runs_when_the_supervisor_stops_it_and_needs_no_trap_exit():
    seen = []

    class Server(Echo):
        async def terminate(self, reason):
            seen.append(reason)

    async with open_supervisor(Supervisor([child(Server, shutdown="infinity", init_timeout=math.inf)])):
        pass
    assert seen == [Shutdown()]
