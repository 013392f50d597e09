"""The shell acts in whatever task something happens: what that saves, and what it must not let through."""

from collections import Counter
from contextvars import ContextVar
from itertools import pairwise
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from otp import Actor, Behaviour, FailedToStart, InitTimeout, Supervisor, child, open_supervisor
from otp.testing import living_tasks, no_task_left
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


class Spawned(trio.abc.Instrument):
    """Counts the tasks that were spawned."""

    def __init__(self):
        self.count = 0

    def task_spawned(self, task):
        self.count += 1


class Idle(Actor):
    pass


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
async def test_many_children_start_in_one_pass_of_the_scheduler_and_each_stop_takes_one(strategy):
    passes = Passes()
    children = [child(Idle, id=f"idle-{i}") for i in range(200)]
    trio.lowlevel.add_instrument(passes)
    async with open_supervisor(Supervisor(children, strategy=strategy)):
        assert 4 <= passes.count < 20
        passes.count = 0
    assert 200 <= passes.count < 210


async def test_other_tasks_have_their_turn_while_many_children_start():
    started = 0
    seen = []

    class Counts(Actor):
        async def init(self):
            nonlocal started
            started += 1

    async def watch():
        while started < 1000:
            seen.append(started)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        async with open_supervisor(Supervisor([child(Counts, id=f"child-{i}") for i in range(1000)])):
            pass
    assert max(after - before for before, after in pairwise([*seen, 1000])) <= 2 * 64  # at most 64 in a pass


@pytest.mark.parametrize("waits", [0.0, 0.5, 1.0])
async def test_who_waits_in_its_init_holds_back_those_behind_it(waits):
    """Whatever tasks were spawned ahead: they come up one after another, each in a task that bears its id."""
    log = []
    slow = Random(f"{waits}")

    class Logs(Actor):
        async def init(self):
            assert trio.lowlevel.current_task().name == self.context.id
            log.append(f"{self.context.id} begins")
            if slow.random() < waits:
                await trio.sleep(1)
            log.append(f"{self.context.id} is up")

    ids = [f"child-{i}" for i in range(300)]
    async with open_supervisor(Supervisor([child(Logs, id=id_) for id_ in ids])):
        assert log == [f"{id_} {what}" for id_ in ids for what in ("begins", "is up")]
        await wait_all_tasks_blocked()
        assert Counter(task.name for task in living_tasks() if task.name.startswith("child-")) == Counter(ids)


async def test_few_tasks_are_spawned_in_vain_where_inits_wait():
    """One batch where the quick ones end, and then one for every second that waits; not a whole batch for each."""

    class Waits(Actor):
        async def init(self):
            await trio.sleep(1)

    spawned = Spawned()
    quick = [child(Idle, id=f"quick-{i}") for i in range(128)]
    slow = [child(Waits, id=f"slow-{i}") for i in range(128)]
    trio.lowlevel.add_instrument(spawned)
    async with open_supervisor(Supervisor(quick + slow)):
        assert 256 <= spawned.count <= 256 + 64 + 64 + 8
    trio.lowlevel.remove_instrument(spawned)


async def test_tasks_that_were_spawned_ahead_find_nothing_when_the_tree_is_stopped_meanwhile():
    started = []

    class Stops(Actor):
        async def init(self):
            started.append(self.context.id)
            if self.context.id == "child-10":
                await self.context.supervisor.start_child(child(Idle, id="never"))

    with trio.move_on_after(1) as patience:
        async with no_task_left(), open_supervisor(Supervisor([child(Stops, id=f"child-{i}") for i in range(100)])):
            pass
    assert patience.cancelled_caught
    assert started == [f"child-{i}" for i in range(11)]


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
