"""A simple model of one name with its inbox and checkpoint, and a runner that holds it against the real thing.

The model is single-threaded and knows the rules only; time plays a part in who may acquire the name, and nowhere else.
What it promises after every step: L (nothing posted is lost), O (in order), X (one effect each), F (none under an older
epoch than one before).
"""

from __future__ import annotations

from typing import Any

import trio
from attrs import define, field

from checkpoints import (
    AlreadyHeld,
    Checkpoint,
    Checkpoints,
    Entry,
    EntryGone,
    Inbox,
    InboxReader,
    NameLeases,
)
from otp.engines import Engine, Lease, LeaseLost, Token
from tests.checkpoints.pod import COIN, Coin


@define
class Pending:
    seq: int
    id: str
    value: int
    attempts: int = 0
    releases: int = 0
    open_epoch: int = 0


@define(eq=False)
class Incarnation:
    """One holding of the name, however long ago: zombies stay and go on trying."""

    engine: Engine[Any]
    lease: Lease
    died_at: float | None = None
    released: bool = False
    reader: InboxReader[Coin] | None = None
    checkpoint: Checkpoint | None = None
    entry: Entry[Coin] | None = None

    @property
    def epoch(self) -> int:
        return self.lease.token.epoch


@define
class Model:
    epoch: int = 0
    inbox_epoch: int = 0
    step_epoch: int = 0
    next_seq: int = 1
    pending: list[Pending] = field(factory=list)
    first_seq: dict[str, int] = field(factory=dict)
    dead: dict[str, Pending] = field(factory=dict)
    steps: dict[str, int] = field(factory=dict)
    effects: list[tuple[int, int]] = field(factory=list)  # (seq, epoch)
    finished: set[int] = field(factory=set)

    def post(self, id_: str | None, value: int) -> tuple[int, bool]:
        if id_ in self.first_seq:
            return self.first_seq[id_], True
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        self.pending.append(Pending(seq, id_ or f"made-{seq}", value))
        if id_ is not None:
            self.first_seq[id_] = seq
        return seq, False

    def check(self) -> None:
        seqs = [seq for seq, _ in self.effects]
        assert seqs == sorted(set(seqs))  # O and X
        epochs = [epoch for _, epoch in self.effects]
        assert epochs == sorted(epochs)  # F
        here = {pending.seq for pending in self.pending}
        assert here | self.finished == set(range(1, self.next_seq))  # L


class Runner:
    """Executes commands on the real thing and on the model. `timed` takes real name leases, otherwise made by hand."""

    def __init__(self, engines: list[Engine[Any]], name: str, *, timed: bool) -> None:
        self.name = name
        self.timed = timed
        self.model = Model()
        self.incarnations: list[Incarnation] = []
        self.inboxes: list[Inbox[Coin]] = []
        self.engines: list[Engine[Any]] = []
        for engine in engines:
            self.join(engine)

    def join(self, engine: Engine[Any]) -> None:
        """Let one more pod take part."""
        self.engines.append(engine)
        self.inboxes.append(Inbox(engine, self.name, [COIN], dedup_window=1e6))

    def pick(self, number: int) -> Incarnation | None:
        return self.incarnations[-1 - number % len(self.incarnations)] if self.incarnations else None

    async def run(self, command: tuple[str, int, int]) -> None:
        name, number, value = command
        if name == "takeover":  # by chance alone it comes too seldom with a zombie that has something in its hands
            for step in (("release", 0, 0), ("acquire", number, 0), ("open_inbox", 0, 0), ("open_checkpoint", 0, 0)):
                await self.run(step)
            return
        act = getattr(self, name)
        if name in ("acquire", "sleep", "post", "requeue", "drop"):
            await act(number, value)
        elif (incarnation := self.pick(number)) is not None:
            await act(incarnation, value)
        self.model.check()
        await self.compare()

    async def compare(self) -> None:
        model = self.model
        found = await self.inboxes[0].statistics()
        assert (found.depth, found.posted, found.dead) == (len(model.pending), model.next_seq - 1, len(model.dead))
        assert found.head == (model.pending[0].seq if model.pending else None)
        assert found.epoch == model.inbox_epoch
        view = await Checkpoints(self.engines[0]).peek(self.name)
        assert (0 if view is None else view.epoch) == model.step_epoch
        steps = [] if view is None else [(saved.step, int(saved.envelope.body)) for saved in view.steps]
        assert steps == list(model.steps.items())

    # Leases

    async def acquire(self, number: int, _: int) -> None:
        engine = self.engines[number % len(self.engines)]
        last = self.incarnations[-1] if self.incarnations else None
        if not self.timed:
            token = Token(kind="name", key=self.name, owner=engine.owner, epoch=self.model.epoch + 1)
            lease: Lease | None = Lease(token, deadline=trio.current_time() + 1e6)
        else:
            free = last is None or last.released
            here = any(
                each.engine is engine and not each.released and not each.lease.lost for each in self.incarnations
            )
            try:
                lease = await NameLeases(engine).acquire(self.name)
            except AlreadyHeld:
                assert here
                return
            assert not here
            now = trio.current_time()
            if last is not None and not free:
                lapsed = last.died_at is not None and now >= last.died_at + engine.lease
                mine = last.engine is engine  # lost by ourselves, so nobody of ours holds it
                if lease is None:
                    assert not lapsed
                    assert not mine
                else:
                    assert mine or now >= last.lease.deadline - 1e-6
            else:
                assert lease is not None
        if lease is None:
            return
        self.model.epoch += 1
        assert lease.token.epoch == self.model.epoch
        self.incarnations.append(Incarnation(engine, lease))

    async def release(self, who: Incarnation, _: int) -> None:
        if self.timed:
            held = await NameLeases(who.engine).release(who.lease)
            if held:
                assert who is self.incarnations[-1]
                assert not who.released
                head = self.model.pending[0] if self.model.pending else None
                if head is not None and head.open_epoch == who.epoch:  # interrupted
                    head.attempts, head.releases, head.open_epoch = head.attempts - 1, head.releases + 1, 0
            who.released = who.released or held

    async def die(self, who: Incarnation, _: int) -> None:
        """It stops renewing and knows nothing of it: a zombie that goes on."""
        who.engine.let_go(who.lease)
        if who.died_at is None:
            who.died_at = trio.current_time()

    async def sleep(self, number: int, _: int) -> None:
        if self.timed:
            await trio.sleep(number * 0.3)

    # The inbox

    async def post(self, number: int, value: int) -> None:
        id_ = None if value % 3 == 0 else f"id-{value % 7}"
        expected = self.model.post(id_, value)
        posted = await self.inboxes[number % len(self.inboxes)].post(Coin(value), id=id_)
        assert (posted.seq, posted.duplicate) == expected
        if id_ is None:
            self.model.pending[-1].id = posted.id

    async def open_inbox(self, who: Incarnation, _: int) -> None:
        inbox = self.inboxes[self.engines.index(who.engine)]
        if await self.expect(
            who, not who.lease.lost and who.epoch >= self.model.inbox_epoch, inbox.open(who.lease), "reader"
        ):
            self.model.inbox_epoch = who.epoch

    async def next(self, who: Incarnation, _: int) -> None:
        if who.reader is None:
            return
        if not await self.expect(who, self.reads(who) and not who.lease.lost, who.reader.next(), "entry"):
            return
        head = self.model.pending[0] if self.model.pending else None
        if head is None:
            assert who.entry is None
            return
        if head.open_epoch != who.epoch:
            head.attempts, head.open_epoch = head.attempts + 1, who.epoch
        assert who.entry is not None
        stored = who.entry.stored
        found = (who.entry.seq, who.entry.id, who.entry.payload.value, who.entry.attempt, stored.releases)
        assert found == (head.seq, head.id, head.value, head.attempts, head.releases)

    async def commit(self, who: Incarnation, _: int) -> None:
        """The transactional finish: it is what effects are counted by."""
        if (entry := who.entry) is None:
            return

        async def act() -> None:
            async with entry.commit():
                pass

        if await self.finishes(who, act(), local=True):
            self.model.effects.append((entry.seq, who.epoch))

    async def mark(self, who: Incarnation, _: int) -> None:
        if who.entry is not None and who.reader is not None:
            await self.finishes(who, who.reader.mark(who.entry), local=True)

    async def bury(self, who: Incarnation, _: int) -> None:
        if who.entry is not None and who.reader is not None:
            head = self.model.pending[0] if self.model.pending else None
            if await self.finishes(who, who.reader.bury(who.entry, reason="because"), local=False):
                assert head is not None
                self.model.dead[head.id] = head

    async def fail(self, who: Incarnation, _: int) -> None:
        if who.entry is not None and who.reader is not None:
            act = who.reader.failed(who.entry, "no")
            if (head := await self.touches(who, act, local=False)) is not None:
                head.open_epoch = 0

    async def give_back(self, who: Incarnation, _: int) -> None:
        if who.entry is not None and who.reader is not None:
            head = await self.touches(who, who.reader.release(who.entry), local=False)
            if head is not None:
                if head.open_epoch == who.epoch:
                    head.attempts, head.releases = head.attempts - 1, head.releases + 1
                head.open_epoch = 0

    async def requeue(self, number: int, _: int) -> None:
        if self.model.dead:
            id_ = sorted(self.model.dead)[number % len(self.model.dead)]
            assert await self.inboxes[0].dead.requeue(id_)
            again = self.model.dead.pop(id_)
            self.model.pending.append(Pending(self.model.next_seq, id_, again.value))
            if id_ in self.model.first_seq:
                self.model.first_seq[id_] = self.model.next_seq
            self.model.next_seq += 1

    async def drop(self, number: int, _: int) -> None:
        if self.model.dead:
            id_ = sorted(self.model.dead)[number % len(self.model.dead)]
            assert await self.inboxes[0].dead.drop(id_)
            del self.model.dead[id_]

    # The checkpoint

    async def open_checkpoint(self, who: Incarnation, _: int) -> None:
        act = Checkpoints(who.engine).open(self.name, who.lease)
        if await self.expect(who, not who.lease.lost and who.epoch >= self.model.step_epoch, act, "checkpoint"):
            self.model.step_epoch = who.epoch
            assert who.checkpoint is not None
            found = [(step, who.checkpoint.load(step, int)) for step, _ in who.checkpoint.saved]
            assert found == list(self.model.steps.items())

    async def save(self, who: Incarnation, value: int) -> None:
        if who.checkpoint is not None:
            step, ours = f"step-{value % 4}", self.model.step_epoch == who.epoch
            if await self.expect(who, ours and not who.lease.lost, who.checkpoint.save(step, value)):
                self.model.steps.pop(step, None)
                self.model.steps[step] = value

    async def clear(self, who: Incarnation, _: int) -> None:
        if who.checkpoint is not None and await self.expect(
            who, self.model.step_epoch == who.epoch, who.checkpoint.clear()
        ):
            self.model.steps.clear()

    # What is expected

    def reads(self, who: Incarnation) -> bool:
        return self.model.inbox_epoch == who.epoch

    async def expect(self, who: Incarnation, allowed: bool, act: Any, keep: str | None = None) -> bool:
        """Run it; it must work if it is allowed, and raise LeaseLost otherwise."""
        try:
            result = await act
        except LeaseLost:
            assert not allowed
            return False
        assert allowed
        if keep is not None:
            setattr(who, keep, result)
        return True

    async def touches(self, who: Incarnation, act: Any, *, local: bool) -> Pending | None:
        """Run something that concerns the entry of `who`; return the entry if it worked."""
        assert who.entry is not None
        head = self.model.pending[0] if self.model.pending else None
        ours = self.reads(who) and not (local and who.lease.lost)
        try:
            worked = await self.expect(who, ours, act)
        except EntryGone:
            assert ours
            assert head is None or head.seq > who.entry.seq
            return None
        if not worked:
            return None
        assert head is not None
        assert head.seq == who.entry.seq
        return head

    async def finishes(self, who: Incarnation, act: Any, *, local: bool) -> bool:
        head = await self.touches(who, act, local=local)
        if head is None:
            return False
        self.model.pending.remove(head)
        self.model.finished.add(head.seq)
        return True
