"""Calls: every way for an answer to come, not to come, and to come too late. The rows are of gen_server_SUITE."""

import math
from collections import deque
from random import Random
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    CallingSelf,
    CallTimeout,
    Crashed,
    MailboxFull,
    NoMailbox,
    NotAlive,
    Shutdown,
    Supervisor,
    call,
    child,
    current_context,
    open_supervisor,
    send,
    whereis,
)
from tests.otp.actors import Boom, Echo, boom, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def echo(**options):
    return open_supervisor(Supervisor([child(Echo, id="echo", name="echo", **options)]))


async def nap(_):
    await trio.sleep(1)
    return "woke up"


async def for_ever(_):
    await trio.sleep_forever()


async def test_gen_server_call_answers():
    async with echo() as supervisor:
        assert await supervisor.ref("echo").call("hello") == "hello"
        assert await supervisor.ref("echo").call(nap) == "woke up"
        assert await call("echo", "by name") == "by name"
        assert await call(supervisor.ref("echo"), "by ref", timeout=math.inf) == "by ref"


@pytest.mark.parametrize("timeout", [5.0, 3.0])
async def test_gen_server_call_times_out_in_the_caller_and_the_callee_lives(timeout):
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        began = trio.current_time()
        with pytest.raises(CallTimeout, match=f"app/echo did not answer within {timeout:g} s") as timed_out:
            await ref.call(sleeps(10), timeout=timeout)
        assert trio.current_time() - began == pytest.approx(timeout)
        assert timed_out.value.timeout == timeout
        assert isinstance(timed_out.value, TimeoutError)
        assert await ref.call("alive", timeout=100) == "alive"


async def test_a_late_reply_is_dropped_and_counted():
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        with pytest.raises(CallTimeout):
            await ref.call(nap, timeout=0.5)
        # The answer to the first call comes while the caller waits for the second one.
        assert await ref.call("second") == "second"
        assert supervisor.runtime.late_replies == 1


async def test_gen_server_call_to_somebody_who_dies_while_handling_it_is_answered_at_once():
    async with echo() as supervisor:
        began = trio.current_time()
        with pytest.raises(NotAlive) as error:
            await supervisor.ref("echo").call(boom)
        assert trio.current_time() == began
        assert isinstance(error.value.__cause__, Boom)
        assert isinstance(error.value.reason, Crashed)


async def test_callers_are_told_before_the_cleanup_of_the_callee():
    class SlowToDie(Echo):
        async def terminate(self, reason):
            await trio.sleep(4)

    async with open_supervisor(Supervisor([child(SlowToDie)])) as supervisor:
        began = trio.current_time()
        with pytest.raises(NotAlive):
            await supervisor.ref("SlowToDie").call(boom)
        assert trio.current_time() == began


async def test_a_queued_call_is_answered_when_the_callee_dies():
    async with echo() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("echo")
        seen = []

        async def caller(i):
            with pytest.raises(NotAlive) as error:
                await ref.call(i)
            seen.append(error.value)

        ref.send(sleeps(1))
        ref.send(boom)
        for i in range(5):
            nursery.start_soon(caller, i)
    assert len(seen) == 5
    assert len(set(map(id, seen))) == 5  # one exception object in five tasks would mix up their tracebacks
    assert all(isinstance(error.__cause__, Boom) for error in seen)


async def test_a_call_to_the_dead_and_to_nobody_fails_at_once():
    async with echo(restart="temporary") as supervisor:
        ref = supervisor.ref("echo")
        ref.send(boom)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(NotAlive, match=r"app/echo is not alive: it ended with crashed \(Boom\)"):
            await ref.call("x")
        with pytest.raises(NotAlive, match="echo is not alive"):
            await call("echo", "x")
        with pytest.raises(NotAlive):
            send("echo", "x")
        with pytest.raises(NotAlive):
            ref.send("x")
        with pytest.raises(NotAlive):
            await ref.send_wait("x")
        assert trio.current_time() == began
        assert whereis("echo") is None


async def test_a_restarting_child_is_not_alive():
    attempts = []

    class Flaky(Echo):
        async def init(self):
            attempts.append(trio.current_time())
            if len(attempts) > 1:
                await trio.sleep(100)

    async with open_supervisor(Supervisor([child(Flaky, id="f", init_timeout=math.inf)])) as supervisor:
        old = supervisor.ref("f")
        old.send(boom)
        await trio.sleep(1)
        with pytest.raises(NotAlive):
            old.send("x")
        with pytest.raises(NotAlive):
            await old.call("x")


async def test_gen_server_calling_self_is_refused_at_once():
    async with echo() as supervisor:

        async def call_self(actor):
            with pytest.raises(CallingSelf, match="app/echo called itself"):
                await actor.me.call("me")
            with pytest.raises(CallingSelf):
                await call("echo", "me")
            return "refused"

        assert await supervisor.ref("echo").call(call_self) == "refused"


async def test_a_helper_may_call_its_actor():
    async with echo() as supervisor:
        answers = []

        async def helper(actor):
            answers.append(await actor.me.call("from the helper"))

        supervisor.ref("echo").send(lambda actor: actor.nursery.start_soon(helper, actor))
        await wait_all_tasks_blocked()
    assert answers == ["from the helper"]


async def test_a_request_whose_caller_was_cancelled_is_skipped():
    handled = []
    async with echo() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("echo")
        ref.send(nap)
        nursery.start_soon(ref.call, lambda _: handled.append("x"))
        await wait_all_tasks_blocked()
        assert ref.mailbox().unread == 1
        nursery.cancel_scope.cancel()
    assert handled == []
    assert supervisor.runtime.skipped_calls == 1


async def test_a_request_whose_deadline_has_passed_is_skipped():
    handled = []
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        ref.send(nap)
        with pytest.raises(CallTimeout):
            await ref.call(lambda _: handled.append("x"), timeout=0.5)
        with trio.move_on_after(0.3) as scope:  # the deadline of a scope travels, too
            await ref.call(lambda _: handled.append("y"))
        assert scope.cancelled_caught
        assert await ref.call("alive") == "alive"
        assert handled == []
        assert supervisor.runtime.skipped_calls == 2


async def test_a_request_is_begun_when_the_scope_of_its_caller_was_given_more_time():
    seen = []

    async def ask(actor):
        seen.append(actor.context.call_deadline)
        return await call("other", "x")

    spec = Supervisor([child(Echo), child(Echo, id="other", name="other")])
    async with open_supervisor(spec) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("Echo")
        ref.send(sleeps(2))

        async def give_more_time(scope):
            await trio.sleep(0.5)
            scope.deadline += 10

        for timeout in (math.inf, 5):
            with trio.move_on_after(1) as scope:
                nursery.start_soon(give_more_time, scope)
                assert await ref.call(ask, timeout=timeout) == "x"
            assert not scope.cancelled_caught
            ref.send(sleeps(2))
    assert seen == [math.inf, 7]
    assert supervisor.runtime.skipped_calls == 0


async def test_a_request_is_skipped_whose_caller_is_about_to_be_cancelled():
    """The deadline passes while a handler blocks the loop, and trio has not yet seen to it."""
    handled = []

    async with echo() as supervisor:
        ref = supervisor.ref("echo")

        def block(actor):
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, trio.testing.MockClock)
            clock.jump(2)

        for _ in range(2):  # after the third message in a row it does not look at the clock
            ref.send(lambda _: None)
        ref.send(block)
        with trio.move_on_after(1) as scope:
            await ref.call(lambda _: handled.append("x"))
        assert scope.cancelled_caught
        assert await ref.call("alive") == "alive"
        assert handled == []
        assert supervisor.runtime.skipped_calls == 1


async def test_the_deadline_travels_through_a_chain_of_calls():
    seen = []

    async def ask_inner(actor):
        began = trio.current_time()
        seen.append(actor.context.call_deadline - began)
        with pytest.raises(CallTimeout, match="within 2 s"):
            await call("inner", lambda inner: ask_even_further(inner, began))
        seen.append(trio.current_time() - began)

    async def ask_even_further(actor, began):
        seen.append(actor.context.call_deadline - began)
        await trio.sleep(100)

    spec = Supervisor([child(Echo, id="inner", name="inner"), child(Echo, id="outer")])
    async with open_supervisor(spec) as supervisor:
        with pytest.raises(CallTimeout):
            await supervisor.ref("outer").call(ask_inner, timeout=2)
        assert supervisor.ref("outer").alive
        await wait_all_tasks_blocked()
    assert seen == pytest.approx([2, 2, 2])


async def test_outside_of_a_call_there_is_no_deadline():
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        seen = []
        await ref.call("x", timeout=1)
        ref.send(lambda actor: seen.append(actor.context.call_deadline))
        await wait_all_tasks_blocked()
    assert seen == [math.inf]


async def test_all_calls_with_the_default_timeout_expire_in_time():
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        ref.send(sleeps(60))
        expired = []

        async def caller(delay):
            await trio.sleep(delay)
            began = trio.current_time()
            with pytest.raises(CallTimeout):
                await ref.call("x")
            expired.append((delay, trio.current_time() - began))

        async with trio.open_nursery() as nursery:
            for delay in (0, 0.1, 0.1, 3, 4.9, 5, 7):
                nursery.start_soon(caller, delay)
        assert [delay for delay, _ in expired] == [0, 0.1, 0.1, 3, 4.9, 5, 7]
        assert [waited for _, waited in expired] == pytest.approx([5.0] * 7)
        assert supervisor.runtime.statistics().waiting_calls == 0


async def test_answered_calls_leave_nothing_behind():
    async with echo() as supervisor:
        for i in range(1000):
            await supervisor.ref("echo").call(i)
        assert len(supervisor.runtime.calls) == 0


class _NotLookedThrough(deque[object]):
    """A backlog that may grow, and in which nobody may look for anything."""

    def _refuse(self, *_: object) -> Any:
        raise AssertionError("somebody has looked through the backlog")

    __iter__ = __reversed__ = __contains__ = __getitem__ = index = count = remove = popleft = _refuse


async def test_gen_server_call_with_huge_message_queue_does_not_look_through_it():
    # The backlog is that of the caller: an actor with many unread messages calls another one.
    specs = [child(Echo, id="a", mailbox=500_000, shutdown="brutal"), child(Echo, id="b")]
    async with open_supervisor(Supervisor(specs)) as supervisor:
        a, b = supervisor.ref("a"), supervisor.ref("b")

        async def ask(actor):
            box = actor._life.box
            for _ in range(500_000):
                a.send("unread")
            unread, box.queue = box.queue, _NotLookedThrough(box.queue)
            with pytest.raises(AssertionError, match="looked through"):
                list(box.queue)
            answers = [await b.call(i) for i in range(100)]
            with pytest.raises(CallTimeout):
                await b.call(sleeps(10), timeout=1)
            assert len(box.queue) == len(unread)
            box.queue = unread
            return answers

        assert await a.call(ask, timeout=math.inf) == list(range(100))
        await supervisor.terminate_child("a")


async def test_call_to_a_full_mailbox_names_the_box_and_what_to_do():
    async with echo(mailbox=2) as supervisor:
        ref = supervisor.ref("echo")
        ref.send(for_ever)
        await wait_all_tasks_blocked()
        ref.send(1)
        ref.send(2)
        with pytest.raises(MailboxFull, match=r"the mailbox of app/echo is full \(2 messages\).*send_wait"):
            await ref.call("x")


async def test_an_actor_whose_task_has_yet_to_begin_is_not_said_to_take_no_messages():
    """It is not alive yet; that it has no mailbox would be untrue, and final."""
    refs = []

    async def before():
        """It is up as soon as it begins, and the next child is due: but no other task has run since."""
        ref = current_context().supervisor.ref("echo")
        for attempt in (ref.send, ref.call, ref.send_wait):
            with pytest.raises(NotAlive):  # noqa: PT012
                result = attempt("x")
                if result is not None:
                    await result
        with pytest.raises(NotAlive):
            ref.request("x").result()
        refs.append(ref)

    async with open_supervisor(Supervisor([child(before, restart="temporary"), child(Echo, id="echo")])):
        assert await refs[0].call("x") == "x"


async def test_a_plain_task_takes_no_messages():
    async with open_supervisor(Supervisor([child(trio.sleep_forever)])) as supervisor:
        ref = supervisor.ref("sleep_forever")
        for attempt in (ref.send, ref.call, ref.send_wait):
            with pytest.raises(NoMailbox, match="app/sleep_forever takes no messages"):  # noqa: PT012
                result = attempt("x")
                if result is not None:
                    await result


@pytest.mark.parametrize("timeout", [-1, math.nan])
async def test_a_senseless_timeout_is_refused(timeout):
    async with echo() as supervisor:
        with pytest.raises(ValueError, match="timeout must be a number of seconds >= 0"):
            await supervisor.ref("echo").call("x", timeout=timeout)


@pytest.mark.parametrize(("late", "timeout"), [(1, 5), (1, math.inf), (3, 5), (3, math.inf)])
async def test_a_call_within_a_call_says_how_long_it_has_waited(late, timeout):
    """Which is what was left for it; it said nan, if it had no limit of its own, or less than nothing."""
    caught = []

    async with open_supervisor(Supervisor([child(Echo, id="a"), child(Echo, id="b")])) as supervisor:
        a, b = supervisor.ref("a"), supervisor.ref("b")

        async def handle(_):
            with trio.CancelScope(shield=True):
                await trio.sleep(late)
            try:
                await b.call(sleeps(60), timeout=timeout)
            except CallTimeout as error:
                caught.append(error.timeout)

        with pytest.raises(CallTimeout):
            await a.call(handle, timeout=2)
        await trio.sleep(5)
    assert caught == [max(0, 2 - late)]


async def test_timeout_zero_sends_and_does_not_wait():
    async with echo() as supervisor:
        with pytest.raises(CallTimeout):
            await supervisor.ref("echo").call("x", timeout=0)


async def test_a_call_during_the_stop_is_refused_and_one_before_it_is_answered():
    gate = trio.Event()
    answers = []

    async def wait_at_gate(_):
        await gate.wait()

    async def early():
        answers.append(await ref.call("early"))

    async with echo() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("echo")
        ref.send(wait_at_gate)
        nursery.start_soon(early)
        await wait_all_tasks_blocked()
        nursery.start_soon(supervisor.terminate_child, "echo")
        await wait_all_tasks_blocked()
        with pytest.raises(NotAlive):
            await ref.call("late")
        gate.set()
    assert answers == ["early"]


async def test_an_actor_in_the_middle_of_the_stop_order_can_still_call_earlier_ones():
    answers = []

    class Late(Echo):
        async def terminate(self, reason):
            assert reason == Shutdown()
            answers.append(await call("early", "still there?"))

    async with open_supervisor(Supervisor([child(Echo, id="early", name="early"), child(Late)])):
        pass
    assert answers == ["still there?"]


@attrs.frozen
class Storm:
    n: int


@pytest.mark.parametrize("seed", range(5))
async def test_a_storm_of_cancelled_calls_leaves_nothing_behind(seed):
    rng = Random(seed)
    outcomes = {"answered": 0, "cancelled": 0, "dead": 0, "timeout": 0}
    supervisor_spec = Supervisor([child(Echo, id="echo", name="echo")], intensity=10_000)
    async with open_supervisor(supervisor_spec, log=False) as supervisor:

        async def one(delay, patience, timeout):
            await trio.sleep(delay)
            with trio.move_on_after(patience) as scope:
                try:
                    kind = rng.random()
                    if kind < 0.02:
                        await call("echo", boom, timeout=timeout)
                    elif kind < 0.5:
                        await call("echo", nap_a_little, timeout=timeout)
                    else:
                        assert await call("echo", Storm(1), timeout=timeout) == Storm(1)
                    outcomes["answered"] += 1
                except NotAlive:
                    outcomes["dead"] += 1
                except CallTimeout:
                    outcomes["timeout"] += 1
            if scope.cancelled_caught:
                outcomes["cancelled"] += 1

        async def nap_a_little(_):
            await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            for _ in range(500):
                timeout = 5.0 if rng.random() < 0.5 else rng.random()
                nursery.start_soon(one, rng.random(), 2 * rng.random(), timeout)
        await wait_all_tasks_blocked()  # it may just be restarting
        assert await call("echo", "alive") == "alive"
        statistics = supervisor.runtime.statistics()
        assert statistics.waiting_calls == 0
        assert supervisor.ref("echo").mailbox().unread == 0
    assert sum(outcomes.values()) == 500
