"""The shell acts in whatever task something happens: what that saves, and what it must not let through."""

from contextvars import ContextVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from otp import Actor, Behaviour, FailedToStart, InitTimeout, Supervisor, child, open_supervisor
from tests.otp.actors import Boom
from tests.otp.virtual import virtual_time

pytestmark = virtual_time

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class Passes(trio.abc.Instrument):
    """Counts the passes of the scheduler."""

    def __init__(self):
        self.count = 0

    def before_io_wait(self, timeout):
        self.count += 1


class Idle(Actor):
    pass


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
async def test_starting_and_stopping_a_child_takes_one_pass_of_the_scheduler_each(strategy):
    passes = Passes()
    children = [child(Idle, id=f"idle-{i}") for i in range(200)]
    trio.lowlevel.add_instrument(passes)
    async with open_supervisor(Supervisor(children, strategy=strategy)):
        assert 200 <= passes.count < 210
        passes.count = 0
    assert 200 <= passes.count < 210


async def test_asking_for_a_child_takes_two_passes():
    async with open_supervisor(Supervisor([child(Idle)], strategy="simple_one_for_one")) as supervisor:
        passes = Passes()
        trio.lowlevel.add_instrument(passes)
        for _ in range(100):
            await supervisor.start_instance()
        assert 200 <= passes.count < 210


async def test_a_child_has_the_context_of_its_supervisor_whoever_starts_it():
    seen = {}

    class Sees(Actor):
        async def init(self):
            seen[self.context.id] = request_id.get()
            request_id.set(f"set by {self.context.id}")

        async def handle_message(self, message):
            raise Boom

    outside = request_id.set("of the program")
    async with open_supervisor(Supervisor([child(Sees, id="first"), child(Sees, id="second")])) as supervisor:
        request_id.set("of a request")
        await supervisor.start_child(child(Sees, id="third"))
        assert seen.pop("first") == seen["second"] == seen["third"] == "of the program"
        supervisor.ref("first").send("crash")
        await trio.sleep(1)
        assert seen["first"] == "of the program"
    request_id.reset(outside)


async def test_the_time_for_its_init_begins_when_the_child_does():
    class HoldsUpTheLoop(Behaviour):
        async def serve(self, context):
            context.started()  # by which the next one is started
            assert isinstance(clock, MockClock)
            clock.jump(100)
            await context.stopping.wait()

    class Slow(Actor):
        async def init(self):
            await trio.sleep(duration)

    clock = trio.lowlevel.current_clock()
    supervisor = Supervisor([child(HoldsUpTheLoop), child(Slow, init_timeout=1.0)])
    duration = 0.9
    async with open_supervisor(supervisor):
        pass
    duration = 1.1
    with pytest.raises(FailedToStart) as caught:
        async with open_supervisor(supervisor):
            pass
    assert isinstance(caught.value.__cause__, InitTimeout)


async def test_each_init_has_its_own_time_also_behind_one_that_was_quick():
    started = []

    class Takes(Actor):
        def __init__(self, seconds):
            self.seconds = seconds

        async def init(self):
            await trio.sleep(self.seconds)
            started.append(trio.current_time())

    def takes(seconds, timeout):
        return child(lambda: Takes(seconds), id=f"{seconds}", init_timeout=timeout)

    begun = trio.current_time()
    supervisor = Supervisor([takes(0, 1.0), takes(0.9, 10.0), takes(5, 10.0), takes(0.5, 0.6)])
    async with open_supervisor(supervisor):
        assert [at - begun for at in started] == pytest.approx([0, 0.9, 5.9, 6.4])
    with pytest.raises(FailedToStart):
        async with open_supervisor(Supervisor([takes(0, 10.0), takes(9, 10.0), takes(2, 1.0)])):
            pass


async def test_children_of_a_supervisor_that_is_cancelled_are_not_started_again():
    starts = 0

    async def task():
        nonlocal starts
        starts += 1
        await trio.sleep_forever()

    nested = Supervisor([child(task, id="a"), child(task, id="b")])
    spec = child(nested, id="nested", shutdown="brutal")
    async with open_supervisor(Supervisor([])) as supervisor:
        for times in range(1, 21):  # within one pass the order of tasks is random
            await (supervisor.start_child(spec) if times == 1 else supervisor.restart_child("nested"))
            await wait_all_tasks_blocked()
            await supervisor.terminate_child("nested")
            assert starts == 2 * times
