"""What a review found in the shell around the core, each forced to happen again."""

import gc
import os
import signal
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from otp import (
    Actor,
    Backoff,
    Crashed,
    FailedToStart,
    Mailbox,
    MessagesDropped,
    Normal,
    NotAlive,
    RecordedError,
    Runtime,
    Supervisor,
    SupervisorStopped,
    child,
    open_supervisor,
)
from otp.testing import capture_events, run_virtual

ROOT = Path(__file__).parents[2]

INTERRUPTED = """
import signal, sys, trio
import otp._supervisor as shell
from otp import Actor, Supervisor, child, open_supervisor

Life = shell.Life
def interrupted(spec, *args):
    if spec.id == "b" and sys.argv[1] != "stop":
        signal.raise_signal(signal.SIGINT)
    return Life(spec, *args)
shell.Life = interrupted
asked = Life.ask_to_stop
def interrupted_too(life):
    if life.spec.id == "app" and sys.argv[1] == "stop":
        signal.raise_signal(signal.SIGINT)
    asked(life)
Life.ask_to_stop = interrupted_too

class Cleans(Actor):
    async def terminate(self, reason):
        print("cleaned", self.context.id, flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where our own parent ignores it

async def main():
    signal.alarm(20)  # so that a hang is a failure
    children = [child(Cleans, id="a")] + [child(Cleans, id="b")] * (sys.argv[1] == "start")
    async with open_supervisor(Supervisor(children), log=False) as supervisor:
        await trio.sleep(0.05)
        await supervisor.start_child(child(Cleans, id="b"))

try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("when", ["start", "request", "stop"])
def test_ctrl_c_in_the_middle_of_a_decision_ends_the_tree_in_order(tmp_path, when):
    """Between what the core has decided and what is done about it: the rest of that is lost. Or as the stop begins."""
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    ran = subprocess.run(
        [sys.executable, script, when],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert ran.returncode != -signal.SIGALRM, "it hangs"
    cleaned = "cleaned b\n" * (when == "stop") + "cleaned a\n"
    assert (ran.stdout, ran.stderr) == (f"{cleaned}interrupted\n", "")


@pytest.mark.parametrize("backoff", [None, Backoff(initial=2.0, jitter=0.0)])
def test_a_kept_mailbox_survives_a_group_that_waits(backoff):
    got = []

    class Fails(Actor):
        async def handle_message(self, message):
            raise ValueError

    class Keeps(Actor):
        async def handle_message(self, message):
            got.append(message)
            if len(got) == 1:
                await trio.sleep_forever()

    async def main():
        runtime = Runtime()
        children = [child(Fails), child(Keeps, mailbox=Mailbox(kept=True), shutdown=1.0)]
        tree = Supervisor(children, strategy="one_for_all", backoff=backoff)
        with capture_events(runtime) as events:
            async with open_supervisor(tree, runtime=runtime, log=False) as supervisor:
                for number in range(4):
                    supervisor.ref("Keeps").send(number)
                await trio.sleep(0.1)
                supervisor.ref("Fails").send("now")
                await trio.sleep(20)
        assert got == [0, 1, 2, 3]
        assert not events.of(MessagesDropped)

    run_virtual(main)


@pytest.mark.parametrize("shutdown", [50.0, "infinity"])
def test_a_supervisor_that_was_cut_short_refuses_what_its_children_ask_of_it(shutdown):
    refused = []

    class Asks(Actor):
        async def terminate(self, reason):
            with pytest.raises(SupervisorStopped):
                await self.context.supervisor.start_child(child(Asks, id="more"))
            refused.append(trio.current_time())

    class Slow(Actor):
        async def terminate(self, reason):
            await trio.sleep(100)

    async def main():
        inner = Supervisor([child(Asks, shutdown=shutdown), child(Slow, shutdown=1000.0)])
        tree = Supervisor([child(inner, id="inner", shutdown=1.0)])
        async with open_supervisor(tree, log=False) as supervisor:
            await supervisor.terminate_child("inner")
        assert refused == [1.0]

    run_virtual(main)


def test_who_crashes_while_it_is_terminated_is_not_kept_alive():
    class Heavy:
        pass

    kept = []

    class Fails(Actor):
        async def init(self):
            self.heavy = Heavy()
            kept.append(weakref.ref(self.heavy))

        async def terminate(self, reason):
            raise ValueError("in terminate")

    async def main():
        async with open_supervisor(Supervisor([child(Fails)]), log=False) as supervisor:
            await supervisor.terminate_child("Fails")
            gc.collect()
            (info,) = supervisor.which_children()
            assert isinstance(info.reason, Crashed)
            assert isinstance(info.reason.exception, RecordedError)
            assert kept[0]() is None

    run_virtual(main)


class Heavy:
    pass


class Holds(Actor):
    async def init(self):
        self.heavy = Heavy()
        self.after(1000, "later")

    async def handle_message(self, message):
        message(self)

    async def handle_call(self, request):
        return weakref.ref(self.heavy)


class HoldsWithHelper(Holds):
    async def init(self):
        await super().init()
        self.nursery.start_soon(self.help)

    async def help(self):
        await trio.sleep_forever()


class HelperFails(HoldsWithHelper):
    async def help(self):
        await trio.sleep(1)
        raise ValueError


class TerminateFails(Holds):
    async def terminate(self, reason):
        raise ValueError


def crashes(actor):
    raise ValueError(actor)


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Holds, lambda actor: actor.stop()),
        (Holds, crashes),
        (HoldsWithHelper, lambda actor: actor.stop()),
        (HelperFails, lambda _: None),
        (TerminateFails, lambda actor: actor.stop()),
    ],
)
def test_a_ref_that_somebody_keeps_does_not_keep_the_actor(kind, message, restart):
    async def main():
        tree = Supervisor([child(kind, id="a", restart=restart)], intensity=10)
        async with open_supervisor(tree, log=False) as supervisor:
            ref = supervisor.ref("a")
            heavy = await ref.call("heavy")
            ref.send(message)
            await trio.sleep(5)
            gc.collect()
            assert not ref.alive
            assert heavy() is None
            with pytest.raises(NotAlive) as caught:  # and it can still say what the actor has ended with
                ref.send("late")
            fails = message is crashes or "Fails" in kind.__name__
            assert isinstance(caught.value.reason, Crashed if fails else Normal)
            assert isinstance(caught.value.__cause__, RecordedError if fails else type(None))

    run_virtual(main)


def test_nor_does_the_ref_of_one_that_was_terminated():
    async def main():
        async with open_supervisor(Supervisor([child(HoldsWithHelper, id="a")]), log=False) as supervisor:
            ref = supervisor.ref("a")
            heavy = await ref.call("heavy")
            await supervisor.terminate_child("a")
            gc.collect()
            assert heavy() is None
            with pytest.raises(NotAlive):
                ref.send("late")

    run_virtual(main)


@pytest.mark.parametrize("address", ["alias", "reply_alias", "context"])
def test_nor_does_another_address_if_there_never_was_a_ref(address):
    kept = []

    class Crashes(Holds):
        async def init(self):
            await super().init()
            found = getattr(self, address)
            kept.extend([found() if callable(found) else found, weakref.ref(self.heavy)])
            self.after(1, crashes)

    async def main():
        async with open_supervisor(Supervisor([child(Crashes, id="a", restart="temporary")]), log=False):
            await trio.sleep(2)
            gc.collect()
            assert kept[1]() is None

    run_virtual(main)


@pytest.mark.parametrize("address", ["ref", "supervisor"])
@pytest.mark.parametrize("how", ["gives up", "rolls back"])
def test_nor_does_the_ref_of_a_supervisor_that_has_ended_of_it(address, how):
    kept: list[Any] = []

    class Crashes(Holds):
        async def init(self):
            await super().init()
            below = self.context.supervisor
            kept.extend([below if address == "supervisor" else root[0].ref("below"), weakref.ref(self.heavy)])
            if how == "rolls back":
                raise ValueError
            self.after(1, crashes)

    root = []

    async def main():
        below = child(Supervisor([child(Crashes, id="a")], intensity=0), id="below", restart="temporary")
        async with open_supervisor(Supervisor([]), log=False) as supervisor:
            root.append(supervisor)
            with suppress(FailedToStart):
                await supervisor.start_child(below)
            await trio.sleep(2)
            gc.collect()
            assert not kept[0].alive
            assert kept[1]() is None

    run_virtual(main)


def test_a_change_leaves_the_living_incarnation_what_it_was_started_as():
    class Links(Actor):
        async def handle_call(self, other):
            self.link(other)

    class Fails(Actor):
        async def handle_message(self, message):
            raise ValueError

    async def main():
        fails = child(Fails, restart="temporary")
        async with open_supervisor(Supervisor([child(Links, id="a"), fails]), log=False) as supervisor:
            ref = supervisor.ref("a")
            await ref.call(supervisor.ref("Fails"))
            await supervisor.change(Supervisor([child(Supervisor([]), id="a"), fails]))
            supervisor.ref("Fails").send("now")
            await trio.sleep(1)
            assert not ref.alive, "links end all but supervisors"
            assert supervisor.supervisor("a").alive

    run_virtual(main)


def test_an_argument_that_cannot_be_shown_is_no_failure_of_the_supervisor():
    class Bad:
        def __repr__(self):
            raise RuntimeError("repr")

    async def works(_):
        await trio.sleep_forever()

    async def main():
        pool = Supervisor([child(works)], strategy="simple_one_for_one")
        async with open_supervisor(pool, log=False) as supervisor:
            ref = await supervisor.start_instance(1)
            with pytest.raises(TypeError, match=r"2 arguments that cannot be shown \(RuntimeError\)"):
                await supervisor.start_instance(1, Bad())
            assert ref is not None
            assert ref.alive

    run_virtual(main)


@pytest.mark.parametrize("strategy", ["one_for_one", "simple_one_for_one"])
def test_nor_is_a_start_that_cannot_be_compared_or_looked_at(strategy):
    class Awkward:
        async def __call__(self):
            await trio.sleep_forever()

        def __eq__(self, other):
            raise RuntimeError("eq")

        __hash__ = object.__hash__

        @property
        def __signature__(self):
            raise RuntimeError("signature")

    def supervise():
        return Supervisor([child(Awkward(), id="a")], strategy=strategy)

    async def main():
        async with open_supervisor(supervise(), log=False) as supervisor:
            if strategy == "simple_one_for_one":
                await supervisor.start_instance()
            (before,) = supervisor.which_children()
            await supervisor.change(supervise())
            (after,) = supervisor.which_children()
            assert after.ref is before.ref
            assert after.spec.start is not before.spec.start

    run_virtual(main)


def test_nor_is_a_group_of_errors_that_cannot_be_split():
    class Awkward(ExceptionGroup[Exception]):
        def derive(self, excs):
            raise RuntimeError("derive")

    async def fails():
        raise Awkward("both", [ValueError(), KeyError()])

    async def main():
        children = [child(trio.sleep_forever, id="a"), child(fails, restart="temporary")]
        async with open_supervisor(Supervisor(children), log=False) as supervisor:
            await trio.sleep(1)
            (a,) = supervisor.which_children()
            assert (a.status, a.ref and a.ref.incarnation) == ("running", 1)

    run_virtual(main)
