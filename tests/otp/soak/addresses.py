"""Aliases: what is sent to one that was revoked never arrives, and a reply alias lets in one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otp import MailboxFull, NotAlive
from tests.otp.soak.messages import Note, post
from tests.otp.soak.world import Question

if TYPE_CHECKING:
    from otp import Ref, Replied
    from tests.otp.soak.worker import Worker
    from tests.otp.soak.world import Record, World


def hand_out(worker: Worker) -> None:
    """One more address of the worker, for whoever wants to use it."""
    alias = worker.alias()
    worker.world.by_ref[alias] = worker.record
    worker.world.aliases = [*worker.world.aliases[-10:], alias]


def put_question(worker: Worker, other: Ref) -> None:
    """Ask somebody by a message; perhaps lose interest at once."""
    world = worker.world
    question = Question(worker.record, worker.reply_alias())
    note = Note(worker, world.number(), "answer", question=question)
    try:
        post(world, note, other.send)
    except NotAlive:
        world.claim(world.refuses(other), f"{other} refuses {note}, but is not stopping")
    except Exception as error:  # noqa: BLE001  (it has no room, or no mailbox)
        world.count(f"question {type(error).__name__}")
    else:
        world.questions[question.alias] = question
        if world.random.random() < 0.2:
            question.revoked = True
            question.alias.revoke()


def answer(world: World, question: Question) -> None:
    """Answer twice, which is once too often."""
    for _ in range(2):
        welcome = question.asker.alive and not question.answered and not question.revoked
        try:
            question.alias.send("answer")
        except NotAlive:
            ending = world.refuses(question.asker.life.ref)
            world.claim(ending or not welcome, f"{question.asker} refuses the answer to {question}")
            world.count("reply refused")
        except MailboxFull:
            world.count("reply MailboxFull")
        else:
            world.claim(welcome, f"{question.asker} takes one more answer to {question}")
            question.answered = True


def replied(world: World, record: Record, message: Replied) -> None:
    """The answer has come."""
    question = world.questions.pop(message.alias, None)
    if world.claim(question, f"{record} got {message}, but has not asked, or has its answer"):
        assert question is not None
        world.claim(question.answered and question.asker is record, f"{record} got the answer to {question}")
        world.count("replied")


def check_answers(world: World) -> None:
    """At rest, no answer is lost."""
    for question in world.questions.values():
        lost = question.answered and question.asker.alive
        world.claim(not lost, f"the answer to {question} has never come")
    world.questions.clear()
