"""What a full mailbox does with one message more, and what becomes of what an incarnation leaves unread."""

from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    Backoff,
    Divert,
    Mailbox,
    MailboxFull,
    MailboxOverflowed,
    MessagesDropped,
    Overflow,
    PoisonMessage,
    Runtime,
    Stop,
    Supervisor,
    call,
    child,
    open_supervisor,
    request,
    send,
    whereis,
)
from otp.testing import capture_events
from tests.otp.actors import Echo, sleeps


class Gate(Actor):
    """Handles nothing until it is told to; then notes all, and fails on "bad"."""

    def __init__(self, log, gate):
        self.log = log
        self.gate = gate

    async def handle_message(self, message):
        if message == "wait":
            await self.gate.wait()
        if message == "bad":
            raise ValueError("bad")
        if message == "stop":
            raise Stop("enough")
        self.log.append(message)

    async def handle_call(self, request):
        await self.handle_message(request)
        return f"answer to {request}"


@attrs.define
class Stage:
    """A tree with a gated actor "a", whose mailbox is under test, and who is diverted to."""

    log: list[Any] = attrs.Factory(list)
    diverted: list[Any] = attrs.Factory(list)
    gate: trio.Event = attrs.Factory(trio.Event)
    runtime: Runtime = attrs.Factory(Runtime)

    def actor(self, mailbox, **options):
        return child(lambda: Gate(self.log, self.gate), id="a", name="a", mailbox=mailbox, **options)

    def open(self, *children, **options):
        return open_supervisor(Supervisor(list(children), **options), runtime=self.runtime)


def found(name):
    ref = whereis(name)
    assert ref is not None
    return ref


def box_of(name):
    return found(name).mailbox()


async def fill(*messages):
    """Have the actor wait in its handler, with these in its box."""
    send("a", "wait")
    await wait_all_tasks_blocked()
    for message in messages:
        send("a", message)


# -- full ----------------------------------------------------------------------------------------------


async def test_the_default_refuses(autojump_clock):
    stage = Stage()
    async with stage.open(stage.actor(Mailbox(2))):
        await fill(1, 2)
        with pytest.raises(MailboxFull):
            send("a", 3)
        assert box_of("a").overflowed == 0
        stage.gate.set()


async def test_drop_oldest(autojump_clock):
    stage = Stage()
    with capture_events(stage.runtime) as events:
        async with stage.open(stage.actor(Mailbox(3, when_full="drop_oldest"))):
            await fill(1, 2, 3, 4, 5)
            assert box_of("a").overflowed == 2
            assert box_of("a").unread == 3
            stage.gate.set()
            await wait_all_tasks_blocked()
    assert stage.log == ["wait", 3, 4, 5]
    told = [(event.message, event.what, event.count) for event in events.of(MailboxOverflowed)]
    assert told == [(1, "dropped", 1), (2, "dropped", 2)]


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest", Divert("b")])
async def test_a_subscriber_may_send_what_it_is_told_to_the_mailbox_that_is_full(autojump_clock, when_full):
    """It was told of that, too, and so on; at the end of the stack it was taken for broken and removed."""
    stage, told = Stage(), []

    def forward(event):
        told.append(event.count)
        send("a", event)
        assert isinstance(request("a", "question")._error, MailboxFull)

    b = child(lambda: Gate(stage.diverted, stage.gate), id="b", name="b")
    async with stage.open(b, stage.actor(Mailbox(2, when_full=when_full))):
        stage.runtime.events.subscribe(forward, MailboxOverflowed)
        await fill(1, 2, 3, 4)
        assert told == [1, 3]
        assert box_of("a").overflowed == 4
        assert box_of("a").unread == 2
        assert stage.runtime.events.wants(MailboxOverflowed)
        stage.gate.set()
        await wait_all_tasks_blocked()
    assert stage.log == (["wait", 3, 4] if when_full == "drop_oldest" else ["wait", 1, 2])


async def test_a_subscriber_cannot_push_out_the_call_of_which_it_is_told(autojump_clock):
    """Its caller does not wait yet, and so cannot be told; trio did not survive it."""
    stage = Stage()
    async with stage.open(stage.actor(Mailbox(1, when_full="drop_oldest"))):
        stage.runtime.events.subscribe(lambda event: send("a", event), MailboxOverflowed)
        await fill(1)
        with trio.move_on_after(0) as expired:
            await call("a", "question")
        assert expired.cancelled_caught
        stage.gate.set()


async def test_a_subscriber_cannot_push_out_a_call_that_was_just_diverted(autojump_clock):
    stage = Stage()

    def forward(event):
        if event.path == "app/a":
            send("b", event)

    b = child(lambda: Gate(stage.diverted, stage.gate), id="b", name="b", mailbox=Mailbox(1, when_full="drop_oldest"))
    async with stage.open(b, stage.actor(Mailbox(1, when_full=Divert("b")))):
        send("b", "wait")
        stage.runtime.events.subscribe(forward, MailboxOverflowed)
        await fill(1)
        with trio.move_on_after(0) as expired:
            await call("a", "question")
        assert expired.cancelled_caught
        stage.gate.set()


async def test_a_call_that_is_dropped_as_the_oldest_raises_in_its_caller(autojump_clock):
    stage = Stage()
    async with stage.open(stage.actor(Mailbox(1, when_full="drop_oldest"))), trio.open_nursery() as nursery:
        await fill()

        async def ask():
            with pytest.raises(MailboxFull):
                await call("a", "question")

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        send("a", "newer")
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        stage.gate.set()


async def test_a_call_that_is_not_waited_for_is_dropped_as_the_oldest_like_any_other(autojump_clock):
    """Found by the soak: it was never dropped, but a younger message was, or the newest refused."""
    stage = Stage()
    async with stage.open(stage.actor(Mailbox(2, when_full="drop_oldest"))):
        await fill()
        asked = request("a", "question")
        send("a", 1)
        assert not asked.done
        send("a", 2)
        with pytest.raises(MailboxFull):
            asked.result()
        others = [request("a", "question") for _ in range(2)]
        assert not any(other.done for other in others)
        send("a", 3)
        assert [other.done for other in others] == [True, False]
        stage.gate.set()
        assert await others[1].wait() == "answer to question"
    assert stage.log == ["wait", "question", 3]


async def test_what_a_helper_wants_in_turn_is_not_dropped_as_the_oldest(autojump_clock):
    """It is the actor's own, and no subscriber could make anything of it."""
    stage = Stage()

    class Helped(Gate):
        async def init(self):
            self.nursery.start_soon(self.turn)

        async def turn(self):
            await trio.sleep(1.0)
            await self.in_turn(self.note)

        async def note(self):
            self.log.append("in turn")

    full = Mailbox(2, when_full="drop_oldest")
    async with stage.open(child(lambda: Helped(stage.log, stage.gate), id="a", name="a", mailbox=full)):
        await fill(1)
        await trio.sleep(2.0)
        for number in range(3):
            send("a", number)
        stage.gate.set()
    assert stage.log == ["wait", "in turn", 2]


async def test_a_question_of_a_tool_is_not_dropped_as_the_oldest(autojump_clock):
    stage = Stage()
    async with stage.open(stage.actor(Mailbox(2, when_full="drop_oldest"))), trio.open_nursery() as nursery:
        await fill(1)
        nursery.start_soon(found("a").inspect)
        await wait_all_tasks_blocked()
        send("a", 2)
        stage.gate.set()
    assert stage.log == ["wait", 2]


async def test_drop_newest(autojump_clock):
    stage = Stage()
    with capture_events(stage.runtime) as events:
        async with stage.open(stage.actor(Mailbox(2, when_full="drop_newest"))):
            await fill(1, 2, 3)
            with pytest.raises(MailboxFull):
                await call("a", "a caller is told at once")
            stage.gate.set()
            await wait_all_tasks_blocked()
    assert stage.log == ["wait", 1, 2]
    assert [event.message for event in events.of(MailboxOverflowed)] == [3]


async def test_waiting_for_room_goes_before_every_policy(autojump_clock):
    stage = Stage()
    async with stage.open(stage.actor(Mailbox(1, when_full="drop_oldest"))), trio.open_nursery() as nursery:
        await fill(1)
        nursery.start_soon(found("a").send_wait, 2)
        await wait_all_tasks_blocked()
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.log == ["wait", 1, 2]


class Spare(Actor):
    def __init__(self, log):
        self.log = log

    async def handle_message(self, message):
        self.log.append(message)

    async def handle_call(self, request):
        return ("spare", request)


async def test_divert_hands_messages_and_calls_to_another_actor(autojump_clock):
    stage = Stage()
    spare = child(lambda: Spare(stage.diverted), id="spare", name="spare")
    with capture_events(stage.runtime) as events:
        async with stage.open(spare, stage.actor(Mailbox(1, when_full=Divert("spare")))):
            await fill(1, 2)
            assert await call("a", "question") == ("spare", Overflow("app/a", "question"))
            await wait_all_tasks_blocked()
            assert stage.diverted == [Overflow("app/a", 2)]
            stage.gate.set()
    assert [(event.message, event.what) for event in events.of(MailboxOverflowed)] == [
        (2, "diverted"),
        ("question", "diverted"),
    ]


async def test_a_call_is_not_diverted_to_the_actor_that_makes_it(autojump_clock):
    """It would wait for itself. A call that it does not wait for is."""
    spec = Supervisor(
        [
            child(Echo, id="full", mailbox=Mailbox(1, when_full=Divert("caller"))),
            child(Echo, id="caller", name="caller"),
        ]
    )
    async with open_supervisor(spec) as supervisor:
        full, caller = supervisor.ref("full"), supervisor.ref("caller")
        full.send(sleeps(100))
        await wait_all_tasks_blocked()
        full.send(str)

        async def ask(_):
            with pytest.raises(MailboxFull):
                await full.call("question")
            return full.request("later")

        pending = await caller.call(ask)
        assert trio.current_time() == 0
        answer = await pending.wait()
    assert answer == Overflow(path="app/full", message="later")


async def test_what_its_helpers_want_in_turn_is_not_diverted(autojump_clock):
    """Found by the soak: the other actor was asked something of which only this one can make anything."""
    stage = Stage()

    class Helped(Gate):
        async def init(self):
            self.nursery.start_soon(self.turn)

        async def turn(self):
            await trio.sleep(1.0)
            with pytest.raises(MailboxFull, match="app/a"):
                await self.in_turn(self.init)
            self.log.append("refused")

    spare = child(lambda: Spare(stage.diverted), id="spare", name="spare")
    full = Mailbox(1, when_full=Divert("spare"))
    async with stage.open(spare, child(lambda: Helped(stage.log, stage.gate), id="a", name="a", mailbox=full)):
        await fill(1)
        await trio.sleep(2.0)
        assert stage.log == ["refused"]
        stage.gate.set()


@pytest.mark.parametrize("to", ["nobody", "a", "b"])
async def test_where_nobody_takes_it_the_mailbox_is_full(autojump_clock, to):
    """Nobody has the name, or it is the full one itself, or that one is full as well and diverts back."""
    stage = Stage()
    other = child(
        lambda: Gate([], stage.gate), id="b", name="b", mailbox=Mailbox(1, when_full=Divert("a")), shutdown="brutal"
    )
    async with stage.open(other, stage.actor(Mailbox(1, when_full=Divert(to)))):
        await fill(1)
        send("b", "wait")
        await wait_all_tasks_blocked()
        send("b", 1)
        with pytest.raises(MailboxFull, match="app/a"):
            send("a", 2)
        with pytest.raises(MailboxFull, match="app/a"):
            await call("a", "question")
        stage.gate.set()


# -- left unread ---------------------------------------------------------------------------------------

KEPT = Mailbox(kept=True)


async def test_what_is_unread_is_for_the_next_incarnation_in_order_and_the_poison_is_not(autojump_clock):
    stage = Stage()
    with capture_events(stage.runtime) as events:
        async with stage.open(stage.actor(KEPT)), trio.open_nursery() as nursery:
            answers: list[str] = []
            await fill(1, "bad", 2)
            nursery.start_soon(asks, answers, "question")
            await wait_all_tasks_blocked()
            send("a", 3)
            stage.gate.set()
            await wait_all_tasks_blocked()
            assert stage.log == ["wait", 1, 2, "question", 3]
            assert answers == ["answer to question"]
    (poison,) = events.of(PoisonMessage)
    assert (poison.path, poison.message, str(poison.reason)) == ("app/a", "bad", "crashed (ValueError: bad)")
    assert not events.of(MessagesDropped)


async def asks(answers, question, timeout=5.0):
    try:
        answers.append(await call("a", question, timeout=timeout))
    except Exception as error:  # noqa: BLE001
        answers.append(type(error).__name__)


async def test_the_caller_of_the_poison_is_told_and_others_wait_over_the_backoff(autojump_clock):
    stage = Stage()
    spec = stage.actor(KEPT, backoff=Backoff(initial=3.0, jitter=0.0))
    async with stage.open(spec), trio.open_nursery() as nursery:
        answers: list[str] = []
        await fill()
        for question, timeout in (("bad", 5.0), ("patient", 5.0), ("impatient", 2.0)):
            nursery.start_soon(asks, answers, question, timeout)
            await wait_all_tasks_blocked()
        stage.gate.set()
        await trio.sleep(1.0)
        assert answers == ["NotAlive"]
        await trio.sleep(1.5)
        assert answers == ["NotAlive", "CallTimeout"]
        await trio.sleep(1.0)
        assert answers == ["NotAlive", "CallTimeout", "answer to patient"]
    assert stage.log == ["wait", "patient"]  # what nobody waits for any more is not begun


@pytest.mark.parametrize("end", ["give up", "not restarted", "terminated while it waits", "supervisor stopped"])
async def test_without_a_next_incarnation_it_is_dropped_and_callers_are_told(autojump_clock, end):
    stage = Stage()
    all_options: dict[str, dict[str, Any]] = {
        "give up": {},
        "not restarted": {"restart": "temporary"},
        "terminated while it waits": {"backoff": Backoff(initial=30.0)},
        "supervisor stopped": {"backoff": Backoff(initial=30.0)},
    }
    answers: list[str] = []
    tree = Supervisor([stage.actor(KEPT, **all_options[end])], intensity=0 if end == "give up" else 3)
    outer = Supervisor([child(tree, id="inner", restart="temporary")])
    with capture_events(stage.runtime) as events:
        async with (
            trio.open_nursery() as nursery,
            open_supervisor(outer, runtime=stage.runtime) as root,
        ):
            await fill("bad", 1, 2)
            nursery.start_soon(asks, answers, "question", 1000.0)
            await wait_all_tasks_blocked()
            inner = root.supervisor("inner")
            stage.gate.set()
            await trio.sleep(1.0)
            if end == "terminated while it waits":
                assert answers == []
                await inner.terminate_child("a")
            elif end == "supervisor stopped":
                assert answers == []
                await root.terminate_child("inner")
            await wait_all_tasks_blocked()
            assert answers == ["NotAlive"]
    assert [event.count for event in events.of(MessagesDropped)] == [2]
    assert stage.log == ["wait"]


async def test_over_a_failed_start_it_is_still_there(autojump_clock):
    stage = Stage()
    fails = 2

    class Fails(Gate):
        async def init(self):
            nonlocal fails
            if stage.log and fails:
                fails -= 1
                raise OSError("not yet")

    spec = child(lambda: Fails(stage.log, stage.gate), id="a", name="a", mailbox=KEPT)
    async with stage.open(spec, intensity=5):
        await fill(1, "bad", 2, 3)
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.log == ["wait", 1, 2, 3]
    assert fails == 0


async def test_what_init_sends_itself_comes_before_what_was_left(autojump_clock):
    stage = Stage()

    class Resumes(Gate):
        async def init(self):
            self.send_self("resume")

    spec = child(lambda: Resumes(stage.log, stage.gate), id="a", name="a", mailbox=KEPT)
    async with stage.open(spec):
        await fill("bad", 1)
        stage.gate.set()
        await wait_all_tasks_blocked()
        assert stage.log == ["resume", "wait", "resume", 1]


async def test_a_sibling_in_the_group_keeps_its_unread_too(autojump_clock):
    """It is stopped for the restart of the group and has no time to handle them."""
    stage = Stage()
    gates = iter([trio.Event()])

    class Slow(Gate):
        async def handle_message(self, message):
            await next(gates, stage.gate).wait()
            self.log.append(message)

    stage.gate.set()
    kept = child(lambda: Slow(stage.log, stage.gate), id="slow", name="slow", mailbox=KEPT, shutdown=1.0)
    async with stage.open(kept, stage.actor(10), strategy="one_for_all"):
        send("slow", "cancelled in its handler")
        await wait_all_tasks_blocked()
        send("slow", 1)
        send("slow", 2)
        send("a", "bad")
        await trio.sleep(5.0)
        assert stage.log == [1, 2]


async def test_what_its_helpers_wanted_in_turn_is_not_for_the_next_incarnation(autojump_clock):
    stage = Stage()
    ask = trio.Event()

    class Helped(Gate):
        async def init(self):
            if not ask.is_set():
                self.nursery.start_soon(self.turn)

        async def turn(self):
            await ask.wait()
            await self.in_turn(self.note)

        async def note(self):
            self.log.append("a turn of the incarnation before")

    async with stage.open(child(lambda: Helped(stage.log, stage.gate), id="a", name="a", mailbox=KEPT)):
        await fill("bad")
        ask.set()
        await wait_all_tasks_blocked()
        send("a", 1)
        assert box_of("a").unread == 3
        stage.gate.set()
        await wait_all_tasks_blocked()
    assert stage.log == ["wait", 1]


async def test_stopping_on_purpose_is_no_poison(autojump_clock):
    stage = Stage()
    with capture_events(stage.runtime) as events:
        async with stage.open(stage.actor(KEPT)):
            await fill("stop", 1)
            stage.gate.set()
            await wait_all_tasks_blocked()
            assert stage.log == ["wait", 1]
    assert not events.of(PoisonMessage)


# -- the spec ------------------------------------------------------------------------------------------


def test_bad_specs_say_what_is_allowed():
    for wrong, error, match in (
        (lambda: child(Gate, mailbox=0), ValueError, "mailbox must be"),
        (lambda: Mailbox(0), ValueError, "limit must be"),
        (
            lambda: Mailbox(when_full="drop"),  # type: ignore[arg-type]
            ValueError,
            "'drop_newest' or a Divert, not 'drop'",
        ),
        (
            lambda: Mailbox(kept=1),  # type: ignore[arg-type]
            TypeError,
            "kept must be True or False",
        ),
        (lambda: Divert(""), ValueError, "to must"),
    ):
        with pytest.raises(error, match=match):
            wrong()
    assert child(Gate, mailbox=7).mailbox == Mailbox(7)


async def test_the_log_tells_of_an_overflow_now_and_then_and_shows_no_message(autojump_clock, caplog):
    stage = Stage()
    async with stage.open(stage.actor(Mailbox(1, when_full="drop_newest"))):
        await fill(*["secret"] * 10)
        stage.gate.set()
    said = [record.message for record in caplog.records if "mailbox is full" in record.message]
    assert said == [f"app/a #1 has dropped {count} messages: its mailbox is full" for count in (1, 2, 4, 8)]
    assert "secret" not in caplog.text
