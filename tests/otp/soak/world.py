"""What the soak knows by itself: who lives, what was sent and called, and what should never be.

Children, clients and the checked cores report to one `World` per round. Nothing of it is taken from the runtime, so the
two can be compared. A claim that does not hold is kept as a violation: it is often made inside a child, where an
exception would be one more crash.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import attrs
import trio

from otp import Ref, Runtime, current_context

if TYPE_CHECKING:
    from tests.otp.soak.checked_core import CheckedCore


class Boom(Exception):
    """What goes wrong on purpose."""


@attrs.define(eq=False)
class Record:
    """One incarnation of a leaf of the tree, as it tells of itself."""

    path: str
    kind: str
    name: str | None
    alive: bool = True
    up: bool = False
    ending: bool = False
    terminated: bool = False
    closed: float | None = None  # since when its mailbox takes nothing, and nobody waits for its answer
    busy: bool = False
    helpers: int = 0
    sent: int = 0  # messages that got into its mailbox
    begun: int = 0
    dropped: int = 0
    continues: int = 0  # what it is to go on with before the next message
    last: dict[object, int] = attrs.field(factory=dict[object, int])  # by sender: the number of the last message


@attrs.define(eq=False)
class Asked:
    """One call, from both ends."""

    token: int
    until: float
    begun: bool = False
    forwarded: bool = False
    returned: float | None = None
    over: bool = False


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.runtime = Runtime()
        self.storm = False
        self.calm = trio.Event()
        self.alive: dict[str, Record] = {}
        self.latest: dict[str, Record] = {}  # by path, alive or not
        self.by_ref: WeakKeyDictionary[Ref, Record] = WeakKeyDictionary()
        self.ended: list[Record] = []
        self.cores: dict[str, CheckedCore] = {}
        self.asked: dict[int, Asked] = {}
        self.numbers = 0
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.broken = trio.Event()

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
        return self.storm and self.random.random() < probability

    # -- storms and calms

    def begin_storm(self) -> None:
        self.storm = True
        self.calm = trio.Event()

    def end_storm(self) -> None:
        self.storm = False
        self.calm.set()

    # -- what children report

    def enter(self, kind: str) -> Record:
        """A leaf begins to live; called by its factory."""
        context = current_context()
        record = Record(context.path, kind, context.name)
        self.claim(context.path not in self.alive, f"{context.path} has two incarnations at once")
        if context.name is not None:
            self.claim(self.runtime.registry.get(context.name) is context.ref, f"{context.path} lives without its name")
        self.alive[record.path] = self.latest[record.path] = record
        self.by_ref[context.ref] = record
        return record

    def leave(self, record: Record) -> None:
        """Its own code has nothing more to do."""
        self.claim(record.alive, f"{record.path} ended twice")
        self.claim(record.helpers == 0, f"{record.path} has ended, and {record.helpers} of its helpers run")
        if record.kind == "actor":
            self.claim(record.terminated == record.up, f"{record.path}: init was done, terminate was not")
        record.alive = False
        self.ended.append(record)
        del self.alive[record.path]

    def lives(self, path: str) -> bool:
        """Whether there is a leaf, or a supervisor, of that path."""
        core = self.cores.get(path)
        return path in self.alive or (core is not None and not core.over)

    def settle_accounts(self) -> None:
        """Each message that was sent was begun or reported as dropped; for those that have ended."""
        for record in self.ended:
            self.claim(
                record.sent == record.begun + record.dropped,
                f"{record.path} was sent {record.sent} messages, began {record.begun}, dropped {record.dropped}",
            )
        self.ended.clear()
