"""A tree is cancelled, or Ctrl-C hits it, at every single step of its tasks: it stops in order each time."""

import signal
from contextlib import asynccontextmanager

import pytest
import trio

from otp import (
    Actor,
    Backoff,
    ChildEvent,
    ChildExited,
    ChildStarted,
    ChildStuck,
    Killed,
    Runtime,
    Supervisor,
    child,
    current_context,
    open_supervisor,
)
from otp.testing import capture_events, crash, find, living_tasks, run_virtual


class Works(Actor):
    async def terminate(self, reason):
        await trio.sleep(0.1)


async def cleans():
    try:
        await trio.sleep_forever()
    finally:
        with current_context().cleanup():
            await trio.sleep(0.1)


@asynccontextmanager
async def opens():
    await trio.sleep(0.1)
    yield


POOL = Supervisor([child(Works, id="worker", restart="transient")], strategy="simple_one_for_one")
LOW = Supervisor([child(Works, id="a"), child(cleans)], strategy="one_for_all")
MID = Supervisor([child(opens), child(LOW, id="low"), child(Works, id="b")], strategy="rest_for_one")
ROOT = Supervisor([child(Works, id="c"), child(MID, id="mid"), child(POOL, id="pool")], backoff=Backoff(initial=0.5))
IDS = [each.id for each in ROOT.children]


async def live(root):
    """Something of everything happens."""
    await root.supervisor("pool").start_instance()
    crash(find(root, "mid/low/a"))
    await trio.sleep(0.3)
    crash(find(root, "mid/opens"))
    crash(find(root, "c"))
    await trio.sleep(2)
    await root.supervisor("mid").terminate_child("low")
    await root.supervisor("mid").restart_child("low")
    await root.supervisor("pool").terminate_child("worker:1")


class Cut(trio.abc.Instrument):
    """Does something in front of the n-th step of a task, once it is armed."""

    def __init__(self, n, act):
        self.left = n
        self.act = act

    def before_task_step(self, task):
        self.left -= 1
        if not self.left:
            self.act()


async def run(how, n):
    """Returns whether there was an n-th step."""
    runtime, before, after = Runtime(), living_tasks(), 0

    def act():
        nonlocal after
        after = len(events)
        scope.cancel() if how == "cancelled" else signal.raise_signal(signal.SIGINT)

    cut = Cut(n, act)
    with capture_events(runtime) as events:
        try:
            with trio.CancelScope() as scope:
                trio.lowlevel.add_instrument(cut)
                async with open_supervisor(ROOT, runtime=runtime, log=False) as root:
                    await live(root)
                trio.lowlevel.remove_instrument(cut)
                await trio.lowlevel.checkpoint()  # for the Ctrl-C of the last step
        except KeyboardInterrupt:
            assert how == "interrupted"
        else:
            assert how == "cancelled" or cut.left > 0
    assert living_tasks() == before
    assert trio.current_time() < 10
    assert not events.of(ChildStuck)
    alive = set()
    for event in events.of(ChildEvent):
        if isinstance(event, ChildStarted):
            alive.add(event.path)
        elif isinstance(event, ChildExited):
            alive.remove(event.path)
            assert event.reason != Killed(), "it was not left the time that it has"
            assert not any(path.startswith(f"{event.path}/") for path in alive), "it outlives its supervisor"
    assert not alive
    stopped = [event.path for event in events.all[after:] if isinstance(event, ChildExited) and event.asked]
    order = [IDS.index(path.removeprefix("app/")) for path in stopped if path.count("/") == 1]
    assert order == sorted(order, reverse=True)
    return cut.left <= 0


@pytest.mark.parametrize("how", ["cancelled", "interrupted"])
def test_cut_short_at_any_step_it_stops_in_order(how):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # also where our own parent ignores it
    try:
        n = 1
        while run_virtual(run, how, n, schedule=n % 5):
            n += 1
    finally:
        signal.signal(signal.SIGINT, handler)
    assert n > 80, "or it did not do anything"
