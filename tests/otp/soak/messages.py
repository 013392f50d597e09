"""What is sent and asked in the soak, and the account of it: nothing is lost without a word, or comes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from otp import (
    Divert,
    Mailbox,
    MailboxOverflowed,
    MessagesDropped,
    Overflow,
    PoisonMessage,
    Ref,
    Replied,
    Timer,
    WhenFull,
)
from otp._call import Query, Request, Turn
from otp._life import Life
from tests.otp.soak.world import Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.otp.soak.world import Record, World


@attrs.frozen(eq=False)
class Note:
    """A message: from whom, which one of theirs, and what it is to cause."""

    sender: object
    number: int
    action: str
    other: Ref | None = None
    question: Question | None = attrs.field(default=None, repr=False)
    to_many: bool = False


@attrs.frozen(eq=False)
class Ask:
    """A request."""

    token: int
    action: str
    other: Ref | None = None


@attrs.define(eq=False)
class Tick:
    """What a timer brings."""

    due: float
    owner: object
    timer: Timer | None = attrs.field(default=None, repr=False)
    cancelled: bool = False
    came: int = 0


ACTIONS = (
    *("nothing",) * 6,
    *("sleep", "sleep", "crash", "stop", "raise", "hang", "again", "helper", "in turn", "hold", "hold"),
    *("timer", "timer", "beat", "continue", "idle", "monitor", "monitor", "demonitor", "link", "link", "unlink"),
    *(
        "join",
        "join",
        "leave",
        "watch",
        "watch",
        "link group",
        "unlink group",
        "unlink group",
        "alias",
        "question",
        "question",
    ),
)
ANSWERS = (
    *("nothing",) * 6,
    *("sleep", "sleep", "crash", "stop", "hang", "relay", "relay", "defer", "defer", "forget", "forward"),
)


def a_mailbox(world: World) -> Mailbox:
    random = world.random
    divert = Divert(random.choice(world.names) if world.names else "nobody")
    policies: list[WhenFull] = ["refuse", "refuse", "drop_oldest", "drop_newest", divert, divert]
    return Mailbox(random.choice([1, 3, 100]), when_full=random.choice(policies), kept=random.random() < 0.4)


# -- the account -------------------------------------------------------------------------------------------


def post(world: World, message: object, send: Callable[[object], int | object]) -> None:
    """Send a message; if that returns a number, it is that of those who got it."""
    world.posting = message
    try:
        sent = send(message)
    finally:
        world.posting = None
    world.mail["sent"] += sent if isinstance(sent, int) else 1


def begin(world: World, record: Record, message: Note | Overflow) -> None:
    """It is being handled."""
    world.mail["begun"] += 1
    note = content(message)
    if isinstance(note, Note):
        pass_by(world, record, note)


def pass_by(world: World, record: Record, note: Note) -> None:
    """What one sender has sent leaves the mailbox in that order, and once."""
    if not note.to_many:
        before = record.last.get(note.sender, 0)
        world.claim(before < note.number, f"{note} left the mailbox of {record} after number {before}")
        record.last[note.sender] = note.number


def settle_account(world: World) -> None:
    """With every mailbox empty, each message that was sent was begun, or told as dropped."""
    mail = world.mail
    done = mail["begun"] + mail["dropped"] + mail["overflowed"]
    world.claim(mail["sent"] == done, f"messages are lost, or came from nowhere: {dict(mail)}")


def content(message: object) -> object:
    """What was sent, also if it has come by way of somebody else's full mailbox."""
    return message.message if isinstance(message, Overflow) else message


# -- what the runtime tells of messages --------------------------------------------------------------------


def messages_dropped(world: World, event: MessagesDropped) -> None:
    world.mail["dropped"] += event.count
    record = world.latest.get(event.path)
    if record is None or not record.keeps or record.supervisor is None:
        return
    above, _, id_ = event.path.rpartition("/")
    if record.life.incarnation != event.incarnation or record.supervisor is not world.cores[above]:
        return  # not this one, but one whose factory has failed
    rules = record.supervisor.rules
    comes_back = rules.phase in ("booting", "up") and rules.status(id_) not in ("stopped", "parked")
    world.claim(not comes_back, f"{event}, but they are kept, and {record} comes back")
    world.count("what was kept is dropped")


def mailbox_overflowed(world: World, event: MailboxOverflowed) -> None:
    """Exactly what the mailbox promises becomes of what there is no room for."""
    record, message = world.latest[event.path], content(event.message)
    when_full, mailbox = record.mailbox.when_full, record.life.box.statistics()
    record.overflowed += 1
    what = event.what if isinstance(when_full, Divert) else when_full
    world.count(f"overflow: {what}")
    world.claim(event.count == record.overflowed, f"{event} is number {record.overflowed}")
    world.claim(mailbox.unread >= record.mailbox.limit, f"{event}, but there is room: {mailbox}")
    world.claim((event.what == "diverted") == isinstance(when_full, Divert), f"{event}, but it is to {when_full}")
    if isinstance(message, Note) and message.to_many:
        pass  # it may be there a second time, by way of another member
    elif isinstance(message, Note) and when_full == "drop_oldest":
        world.claim(message is not world.posting, f"{event}, which is the newest")
        pass_by(world, record, message)  # nothing older of its sender may come after it
    elif isinstance(message, Note):
        world.claim(message is world.posting, f"{event}, which is not the newest")
    match message:
        case Note():
            world.mail["overflowed"] += event.what == "dropped"
        case Ask(token=token) if token in world.asked:
            asked = world.asked[token]
            world.claim(asked.by is None, f"{event}, but {asked.by} has begun it")
            asked.forwarded = True
        case Replied():
            world.questions.pop(message.alias, None)  # lost, or with somebody else; to that one it is a message
            world.mail["sent"] += event.what == "diverted"
            world.mail["overflowed"] += isinstance(event.message, Overflow)
        case _:
            pass


def poison_message(world: World, event: PoisonMessage) -> None:
    record = world.latest[event.path]
    world.count("poison")
    world.claim(event.message is record.handling, f"{event}, but {record} was at {record.handling}")


def no_room(world: World, ref: Ref, note: Note) -> None:
    """Somebody was told that there is no room."""
    record, box, spec = world.by_ref[ref], ref._box, mailbox_of(ref)
    when_full = spec.when_full
    world.claim(box.statistics().unread >= spec.limit, f"{record} refuses {note}, but has room")
    world.claim(when_full != "drop_newest", f"{record} refuses {note}, but is to drop it")
    if when_full == "drop_oldest":
        older = [each for each in box.queue if isinstance(each, Note | Overflow) or is_foreign_call(each)]
        world.claim(not older, f"{record} refuses {note} at {trio.current_time()}, but could drop {older}")


def mailbox_of(ref: Ref) -> Mailbox:
    """The spec of the mailbox that it leads to now, which may be a guest's."""
    life = ref._box.target
    assert isinstance(life, Life)
    return life.spec.mailbox


def is_full(ref: Ref) -> bool:
    """Whether it must refuse what is sent to it now."""
    mailbox = mailbox_of(ref)
    return mailbox.when_full == "refuse" and ref.mailbox().unread >= mailbox.limit


def is_foreign_call(entry: object) -> bool:
    return isinstance(entry, Request) and not isinstance(entry, Query) and not isinstance(entry.message, Turn)
