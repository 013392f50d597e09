"""Aliases: addresses that can be taken back."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    Alias,
    MailboxFull,
    NotAlive,
    Ref,
    Replied,
    ReplyAlias,
    Supervisor,
    child,
    open_supervisor,
    send,
)
from tests.otp.actors import Echo, boom, sleeps
from tests.otp.test_links_and_monitors import Watcher, seen
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def tree(**options):
    return open_supervisor(Supervisor([child(Watcher, id="w", **options), child(Echo)]))


async def test_an_alias_is_used_like_a_ref_until_it_is_revoked():
    async with tree() as supervisor:
        w = supervisor.ref("w")
        alias, other = await w.call(lambda a: (a.alias(), a.alias()))
        assert isinstance(alias, Ref)
        assert isinstance(alias, Alias)
        alias.send("sent")
        send(alias, "sent by function")
        await alias.send_wait("sent and waited")
        assert await alias.call(lambda a: "answer") == "answer"
        assert await alias.request(lambda a: "answer").wait() == "answer"
        assert (alias.path, alias.alive) == ("app/w", True)
        w.send(sleeps(1))
        alias.send("before")
        alias.revoke()
        for use in (alias.send, alias.call, alias.send_wait):
            with pytest.raises(NotAlive, match="app/w is not alive"):  # noqa: PT012
                result = use("x")
                if result is not None:
                    await result
        with pytest.raises(NotAlive):
            alias.request("x").result()
        assert not alias.alive
        assert "revoked" in repr(alias)
        assert w.alive
        other.send("other")
        alias.revoke()
        await trio.sleep(2)
        assert await seen(w) == ["sent", "sent by function", "sent and waited", "before", "other"]


async def test_an_alias_ends_with_its_incarnation():
    async with tree() as supervisor:
        w = supervisor.ref("w")
        alias, reply = await w.call(lambda a: (a.alias(), a.reply_alias()))
        w.send(boom)
        await wait_all_tasks_blocked()
        assert supervisor.ref("w").alive
        assert not alias.alive
        assert not reply.alive
        for address in (alias, reply):
            with pytest.raises(NotAlive):
                address.send("x")


@attrs.frozen
class Question:
    reply_to: ReplyAlias
    text: str


async def test_gen_server_reply_by_alias_with_payload():
    """Late, double and foreign replies cannot be mistaken: each question has its own address, good for one answer."""

    class Asks(Watcher):
        async def ask(self, whom, text):
            alias = self.reply_alias()
            whom.send(Question(alias, text))
            return alias

    refused = []

    class Answers(Actor):
        async def handle_message(self, question):
            await trio.sleep(1)
            for answer in (f"{question.text}!", "again"):
                try:
                    question.reply_to.send(answer)
                except NotAlive:
                    refused.append(answer)

    async with open_supervisor(Supervisor([child(Asks, id="asks"), child(Answers)])) as supervisor:
        asks, answers = supervisor.ref("asks"), supervisor.ref("Answers")
        first, second, third = [await asks.call(lambda a, t=t: a.ask(answers, t)) for t in ("1", "2", "3")]
        second.revoke()
        await trio.sleep(5)
        assert await seen(asks) == [Replied(alias=first, message="1!"), Replied(alias=third, message="3!")]
    assert refused == ["again", "2!", "again", "again"]


async def test_an_answer_that_found_no_room_can_be_sent_again():
    async with tree(mailbox=1) as supervisor:
        w = supervisor.ref("w")
        alias = await w.call(lambda a: a.reply_alias())
        w.send(sleeps(1))
        await wait_all_tasks_blocked()
        w.send("full")
        with pytest.raises(MailboxFull):
            alias.send("answer")
        assert alias.alive
        await trio.sleep(2)
        alias.send("answer")
        assert not alias.alive
        await wait_all_tasks_blocked()
        assert await seen(w) == ["full", Replied(alias=alias, message="answer")]
