"""What the soak knows by itself: who lives, what was sent and called, and what should never be.

Children, clients and the checked cores report to one `World` per round. Nothing of it is taken from the runtime, so the
two can be compared. A claim that does not hold is kept as a violation: it is often made inside a child, where an
exception would be one more crash.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import attrs
import trio

from otp import ExitReason, Group, Mailbox, Monitor, Ref, ReplyAlias, Runtime, current_context
from otp._child import life_of
from otp._life import Life, life_at
from tests.otp.soak.checked_core import CheckedCore

if TYPE_CHECKING:
    from otp import Alias, PendingCall


class Boom(Exception):
    """What goes wrong on purpose."""


@attrs.define(eq=False, repr=False)
class Record:
    """One incarnation of a leaf of the tree, or of a guest in one, as it tells of itself."""

    path: str
    kind: str
    name: str | None
    mailbox: Mailbox
    life: Life
    supervisor: CheckedCore | None
    alive: bool = True
    gone: bool = False  # and so it was told
    up: bool = False
    ending: bool = False
    terminated: bool = False
    closed: float | None = None  # since when its mailbox takes nothing, and nobody waits for its answer
    stops: bool = False  # it wants to end
    lends: bool = False  # its mailbox to its guest
    busy: bool = False
    helpers: int = 0  # tasks of it that end by themselves
    tasks: int = 0  # those that do not
    handling: object = None  # the message, or request, that it has begun last
    overflowed: int = 0  # messages that its mailbox had no room for, and did not refuse
    continues: int = 0  # what it is to go on with before the next message
    idle_at: float | None = None  # when it is to be told that nothing came
    last: dict[object, int] = attrs.field(factory=dict[object, int])  # by sender: the number of the last message
    # Its ties with others; see ties.py.
    monitors: dict[Monitor, None] = attrs.field(factory=dict[Monitor, None])
    heard_by: dict[tuple[Record, Group | None], int] = attrs.field(factory=dict)  # whom its end concerns, by which link
    ends_with: set[str] = attrs.field(factory=set[str])  # the paths of those whose end is to be its own
    trapping: bool = False
    groups: dict[Group, None] = attrs.field(factory=dict[Group, None])
    linked: dict[Group, bool] = attrs.field(
        factory=dict[Group, bool]
    )  # with which groups, and whether in both directions
    views: dict[Monitor, tuple[Group, set[Ref]]] = attrs.field(factory=dict[Monitor, "tuple[Group, set[Ref]]"])

    @property
    def keeps(self) -> bool:
        """Whether what it leaves unread is for the next incarnation."""
        return self.mailbox.kept and not self.life.guest

    @property
    def reads(self) -> bool:
        """Whether somebody will read what is sent to it now."""
        return self.lends or (self.kind == "actor" and self.up and not self.ending)

    def __repr__(self) -> str:
        return f"{self.kind} {self.path} #{self.life.incarnation}"


@attrs.define(eq=False)
class Asked:
    """One call, from both ends."""

    token: int
    until: float
    called: Record | None = None
    taken: bool = False  # into the mailbox of who was called
    by: Record | None = None  # who has begun it
    forwarded: bool = False  # that is, or was, to be another one than was asked
    returned: float | None = None
    over: bool = False


@attrs.define(eq=False)
class Question:
    """One question whose answer comes through a reply alias, from both ends."""

    asker: Record
    alias: ReplyAlias
    answered: bool = False
    revoked: bool = False


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.runtime = Runtime()
        self.storm = False
        self.rage = 1.0
        self.calm = trio.Event()
        self.alive: dict[str, Record] = {}
        self.latest: dict[str, Record] = {}  # by path, alive or not
        self.by_ref: dict[Ref, Record] = {}  # aliases, too
        self.revoked: set[Ref] = set()
        self.cores: dict[str, CheckedCore] = {}
        self.names: list[str] = []  # of actors: all that were ever given to one
        self.numbers = 0
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.broken = trio.Event()
        # What is under way.
        self.posting: object = None  # the message that is being sent in this moment
        self.mail: Counter[str] = Counter()  # messages: sent, begun, dropped at the end, dropped as there was no room
        self.asked: dict[int, Asked] = {}
        self.left_behind: list[tuple[Asked, PendingCall[object]]] = []  # calls that nobody waits for until all rest
        self.aliases: list[Alias] = []
        self.questions: dict[ReplyAlias, Question] = {}
        self.exits_due: list[tuple[Record, Record, Group | None]] = []  # who hears of, or ends with, the end of whom
        self.holding: Counter[str] = Counter()  # by path: how much of its work a drain is to wait for
        self.released = 0.0  # when that was last done
        self.guest_ends: dict[str, ExitReason] = {}

    def claim(self, holds: object, text: str) -> bool:
        """Keep it as a violation if it does not hold."""
        if not holds:
            self.violations.append(f"at {trio.current_time():.6f}: {text}")
            self.broken.set()
        return bool(holds)

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def chance(self, probability: float) -> bool:
        """By lot, and only in a storm: in a calm everything goes well."""
        return self.storm and self.random.random() < probability * self.rage

    # -- storms and calms

    def begin_storm(self) -> None:
        """In a weak one children live longer, and have more to do with each other."""
        self.storm = True
        self.rage = self.random.choice([0.1, 0.3, 1.0])
        self.calm = trio.Event()

    def end_storm(self) -> None:
        self.storm = False
        self.calm.set()

    # -- what children report

    def enter(self, kind: str) -> Record:
        """A leaf begins to live; called by its factory."""
        context = current_context()
        supervisor = self.cores.get(context.path.rpartition("/")[0])
        record = Record(context.path, kind, context.name, context.spec.mailbox, life_of(context), supervisor)
        self.claim(context.path not in self.alive, f"{context.path} has two incarnations at once")
        if context.name is not None:
            self.claim(self.runtime.registry.get(context.name) is context.ref, f"{context.path} lives without its name")
        before = self.latest.get(record.path)
        if before is not None and before.keeps:
            record.last = before.last  # what that has left unread comes now, and nothing for a second time
            if record.life.box.queue:
                self.count("what was kept is handed over")
        self.alive[record.path] = self.latest[record.path] = record
        self.by_ref[context.ref] = record
        return record

    def leave(self, record: Record) -> None:
        """Its own code has nothing more to do."""
        self.claim(record.alive, f"{record.path} ended twice")
        self.claim(not (record.helpers or record.tasks), f"{record.path} has ended, and tasks of it run")
        if record.kind == "actor":
            self.claim(record.terminated == record.up, f"{record.path}: init was done, terminate was not")
        record.alive = False
        del self.alive[record.path]

    def lives(self, path: str) -> bool:
        """Whether there is a leaf, or a supervisor, of that path."""
        core = self.cores.get(path)
        return path in self.alive or (core is not None and not core.over)

    def guests(self) -> list[Record]:
        return [record for record in self.alive.values() if record.life.guest]

    # -- what may be expected of an address

    def leads_nowhere(self, ref: Ref) -> bool:
        """Whether nobody can be reached by it ever again."""
        record = self.by_ref.get(ref)
        return ref in self.revoked or (record is not None and not record.alive)

    def refuses(self, ref: Ref) -> bool:
        """Whether who is addressed by it may say that nobody is there: it is ending, or about to, or yet to begin."""
        record = self.by_ref.get(ref)
        if record is not None and record.kind == "host":
            return True  # that may be its guest, which comes and goes
        life = life_at(ref)
        init_has_failed = not life.up and life.box.closing  # and it waits for its helpers yet
        ends = life.stop_asked or init_has_failed or life.box.reason is not None
        return ref in self.revoked or ends or not life.begun
