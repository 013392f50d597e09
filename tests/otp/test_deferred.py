"""Deferred replies: who may answer a call, when, and what the caller hears if nobody does."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    DEFERRED,
    Actor,
    CallTimeout,
    MailboxFull,
    NotAlive,
    Shutdown,
    Supervisor,
    child,
    open_supervisor,
)
from otp._deferred import Owed
from otp._life import life_at
from tests.otp.actors import Boom, Echo, boom, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


class Later(Actor):
    """Keeps the right to answer every call; messages are functions of those that it has."""

    async def init(self):
        self.waiting = []

    async def handle_call(self, request):
        self.waiting.append(self.reply_to())
        return DEFERRED

    async def handle_message(self, message):
        if (result := message(self)) is not None:
            await result


async def ask(ref, request, answers, **options):
    try:
        answers.append(await ref.call(request, **options))
    except (NotAlive, CallTimeout) as error:
        answers.append(error)


def later(**options):
    return open_supervisor(Supervisor([child(Later, **options)]))


async def test_gen_server_call_deferred_reply_from_a_later_handler():
    answers: list[Any] = []
    async with later() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("Later")
        for i in range(3):
            nursery.start_soon(ask, ref, i, answers)
        await wait_all_tasks_blocked()
        assert answers == []
        ref.send(lambda me: [me.waiting[i].reply(f"answer {i}") for i in (2, 0, 1)] and None)
    assert sorted(answers) == ["answer 0", "answer 1", "answer 2"]


async def test_a_helper_and_another_actor_may_answer():
    answers: list[Any] = []

    async def help_(me):
        await trio.sleep(1)
        me.waiting[0].reply("from the helper")

    async with (
        open_supervisor(Supervisor([child(Later), child(Echo)])) as supervisor,
        trio.open_nursery() as nursery,
    ):
        ref, other = supervisor.ref("Later"), supervisor.ref("Echo")
        nursery.start_soon(ask, ref, "first", answers)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, ref, "second", answers)
        await wait_all_tasks_blocked()
        ref.send(lambda me: me.nursery.start_soon(help_, me))
        ref.send(lambda me: other.send(lambda _: me.waiting[1].reply("from another actor") and None))
    assert answers == ["from another actor", "from the helper"]


async def test_a_reply_given_before_the_handler_is_done_counts():
    answers: list[Any] = []

    class Early(Actor):
        async def handle_call(self, request):
            self.reply_to().reply("at once")
            await trio.sleep(3)
            return DEFERRED

    async with open_supervisor(Supervisor([child(Early)])) as supervisor:
        await ask(supervisor.ref("Early"), "x", answers)
        assert trio.current_time() == 0
        assert supervisor.runtime.late_replies == 0
    assert answers == ["at once"]


async def test_double_and_late_answers_are_harmless_and_counted():
    async with later() as supervisor:
        ref = supervisor.ref("Later")
        taken: list[bool] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref, "x", [])
            await wait_all_tasks_blocked()
            ref.send(lambda me: taken.extend(me.waiting[0].reply(i) for i in range(3)))
        with pytest.raises(CallTimeout):
            await ref.call("y", timeout=1)
        ref.send(lambda me: taken.extend([me.waiting[1].waiting, me.waiting[1].reply("late")]))
        ref.send(lambda me: taken.append(me.waiting[1].reply_error(Boom("late"))))
        await wait_all_tasks_blocked()
        assert taken == [True, False, False, False, False, False]
        assert supervisor.runtime.late_replies == 4


async def test_an_error_is_raised_in_the_caller_and_the_actor_goes_on():
    class Picky(Actor):
        async def handle_call(self, request):
            if request == "bad":
                self.reply_to().reply_error(ValueError("not that"))
                return DEFERRED
            return self.context.incarnation

    async with open_supervisor(Supervisor([child(Picky)])) as supervisor:
        ref = supervisor.ref("Picky")
        with pytest.raises(ValueError, match="not that"):
            await ref.call("bad")
        assert await ref.call("good") == ref.incarnation


async def test_only_an_exception_can_be_raised_in_the_caller():
    async with later() as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("Later")
        nursery.start_soon(ask, ref, "x", [])
        await wait_all_tasks_blocked()

        def wrong(me):
            with pytest.raises(TypeError, match="error must be an exception, not 'no'"):
                me.waiting[0].reply_error("no")
            me.waiting[0].reply(1)

        ref.send(wrong)


@pytest.mark.parametrize("end", [boom, lambda me: me.stop(Shutdown("enough"))])
async def test_the_caller_learns_at_once_that_the_actor_ends_and_never_answers(end):
    answers: list[Any] = []

    class Slow(Later):
        async def terminate(self, reason):
            await trio.sleep(2)

    async with open_supervisor(Supervisor([child(Slow)])) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("Slow")
        for i in range(3):
            nursery.start_soon(ask, ref, i, answers)
        await wait_all_tasks_blocked()
        ref.send(end)
        await wait_all_tasks_blocked(0.1)
        assert trio.current_time() < 1
    assert [type(answer) for answer in answers] == [NotAlive] * 3
    assert len(set(map(id, answers))) == 3


async def test_an_answer_never_given_is_a_timeout():
    async with later() as supervisor:
        with pytest.raises(CallTimeout):
            await supervisor.ref("Later").call("x", timeout=1)


async def test_answered_and_abandoned_calls_do_not_pile_up_in_the_actor():
    async with later() as supervisor:
        ref = supervisor.ref("Later")
        for i in range(500):
            with trio.move_on_after(0.001):
                await ref.call(i)
        owed = life_at(ref).part(Owed)
        assert len(owed) == 0
        assert len(owed._requests) <= 16


async def test_reply_to_is_refused_where_no_call_is_handled():
    async with open_supervisor(Supervisor([child(Echo)])) as supervisor:
        refused = []

        async def try_it(actor):
            with pytest.raises(RuntimeError, match="app/Echo is not handling a call"):
                actor.reply_to()
            refused.append(True)

        async def helper(actor):
            await actor.in_turn(lambda: try_it(actor))

        supervisor.ref("Echo").send(try_it)
        supervisor.ref("Echo").send(lambda actor: actor.nursery.start_soon(helper, actor))
        await wait_all_tasks_blocked()
    assert refused == [True, True]


# -- forward


class Front(Actor):
    """Has `back` answer. What it is called with may be a function of the actor, for what comes before and after."""

    async def handle_call(self, request):
        self.reply_to().forward("back", request)
        if request == "forward and crash":
            raise Boom
        return DEFERRED


def front_and_back(back=Echo, **options):
    return open_supervisor(Supervisor([child(back, id="back", name="back", **options), child(Front)], intensity=10))


async def test_a_forwarded_call_is_answered_by_the_other_with_the_deadline_of_the_caller():
    async with front_and_back() as supervisor:
        front = supervisor.ref("Front")
        assert await front.call("hello") == "hello"
        assert await front.call(lambda actor: actor.context.call_deadline, timeout=3) == trio.current_time() + 3
        assert await front.call(lambda actor: actor.context.path) == "app/back"


async def test_the_crash_of_who_forwarded_a_call_does_not_concern_the_caller():
    async with front_and_back() as supervisor:
        assert await supervisor.ref("Front").call("forward and crash") == "forward and crash"


async def test_the_crash_of_whom_it_was_forwarded_to_does():
    async with front_and_back() as supervisor:
        with pytest.raises(NotAlive, match="app/back"):
            await supervisor.ref("Front").call(boom)
        assert supervisor.ref("Front").incarnation == 2


async def test_a_deferred_call_can_be_forwarded_later_and_then_outlives_who_deferred_it():
    answers: list[Any] = []
    async with (
        open_supervisor(Supervisor([child(Echo, id="back", name="back"), child(Later)])) as supervisor,
        trio.open_nursery() as nursery,
    ):
        ref = supervisor.ref("Later")
        nursery.start_soon(ask, ref, "x", answers)
        await wait_all_tasks_blocked()
        supervisor.ref("back").send(sleeps(1))
        await wait_all_tasks_blocked()
        ref.send(lambda me: me.waiting[0].forward("back", "other words"))
        ref.send(boom)
    assert answers == ["other words"]


async def test_a_call_that_cannot_be_forwarded_stays_where_it_is():
    answers: list[Any] = []
    async with (
        open_supervisor(Supervisor([child(Echo, id="back", name="back", mailbox=1), child(Later)])) as supervisor,
        trio.open_nursery() as nursery,
    ):
        ref = supervisor.ref("Later")
        nursery.start_soon(ask, ref, "x", answers)
        await wait_all_tasks_blocked()
        supervisor.ref("back").send(sleeps(1))
        await wait_all_tasks_blocked()
        supervisor.ref("back").send(str)

        def try_to_forward(me):
            with pytest.raises(MailboxFull, match="app/back"):
                me.waiting[0].forward("back", "other words")
            with pytest.raises(NotAlive):
                me.waiting[0].forward("nobody")

        ref.send(try_to_forward)
        ref.send(boom)
    assert isinstance(answers[0], NotAlive)
    assert answers[0].target == "app/Later"


async def test_a_call_that_nobody_waits_for_is_not_forwarded():
    async with front_and_back() as supervisor:
        back = supervisor.ref("back")
        back.send(sleeps(1))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.ref("Front").call, "x")
            nursery.cancel_scope.cancel()
        assert back.mailbox().unread == 0
