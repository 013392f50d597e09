"""The actor of the soak: it does what messages tell it, and reports to the world what happens to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from otp import (
    DEFERRED,
    Actor,
    ChildContext,
    Down,
    Exited,
    ExitReason,
    Joined,
    Left,
    OtpError,
    Overflow,
    Replied,
    ReplyTo,
    Stop,
)
from tests.otp.soak import addresses, ties
from tests.otp.soak.calls import ask, begin_call
from tests.otp.soak.messages import Ask, Note, Tick, begin, content, post
from tests.otp.soak.trouble import get_into_trouble_at_start, get_into_trouble_at_the_end
from tests.otp.soak.world import Asked, Boom, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Worker(Actor):
    def __init__(self, world: World, *_: object) -> None:
        if world.chance(0.05):
            raise Boom("factory")
        self.world = world
        self.record = world.enter("actor")
        self.forgotten: list[ReplyTo] = []

    async def serve(self, context: ChildContext) -> None:
        try:
            await super().serve(context)
        finally:
            self.world.leave(self.record)

    async def init(self) -> None:
        if self.world.chance(0.1):
            self.begin_helper()
        await get_into_trouble_at_start(self.world)
        early = self.world.random.choice([0, 0, 0, 1, 3])
        for _ in range(early):
            self.send_self(self.note("nothing"))
        if self.world.chance(0.02):
            early = 0  # what it sent itself before is dropped by that, without a word
            self.record.stops = True
            self.stop()
        self.world.mail["sent"] += early
        self.record.up = True

    async def terminate(self, reason: ExitReason) -> None:
        self.world.claim(self.record.up, f"{self.record} is terminated, but was never up")
        self.world.claim(not self.record.terminated, f"{self.record} is terminated twice")
        cleanup = self._life.cleanup
        in_time = cleanup is not None and trio.current_time() < cleanup.deadline
        self.world.claim(not (in_time and self.record.helpers), f"{self.record} is terminated beside its helpers")
        self.record.terminated = True
        self.record.closed = trio.current_time()
        await get_into_trouble_at_the_end(self.world, self.record)

    # -- what comes

    async def handle_message(self, message: object) -> None:
        world, record = self.world, self.record
        self.begin(message)
        match message:
            case Note() | Overflow():
                begin(world, record, message)
                note = content(message)
                if isinstance(note, Note):
                    await self.alone(self.act, note)
            case Tick():
                self.take_tick(message)
            case Down():
                ties.down(world, record, message)
            case Exited():
                ties.exited(world, record, message)
            case Joined() | Left():
                ties.news_of_group(world, record, message)
            case Replied():
                addresses.replied(world, record, message)
            case _:
                world.claim(False, f"{record} got {message}")

    def begin(self, message: object) -> None:
        """A message, or a call, has its turn."""
        record = self.record
        self.world.claim(not record.continues, f"{record} got {message} before it had gone on")
        record.handling, record.idle_at = message, None

    def take_tick(self, tick: Tick) -> None:
        record = self.record
        tick.came += 1
        self.world.count("tick")
        self.world.claim(tick.owner is record, f"{record} got a timer of an earlier incarnation")
        self.world.claim(not tick.cancelled, f"{record} got {tick}, which was cancelled")
        self.world.claim(trio.current_time() >= tick.due, f"{record} got {tick} too early")
        if tick.came == 3 and tick.timer is not None:
            tick.cancelled = True
            tick.timer.cancel()

    async def handle_continue(self, what: object) -> None:
        self.record.continues -= 1
        self.world.count("continued")
        self.world.claim(what is self.record, f"{self.record} goes on with {what}")

    async def handle_idle(self) -> None:
        due, self.record.idle_at = self.record.idle_at, None
        self.world.count("idle")
        in_time = due is not None and abs(trio.current_time() - due) < 1e-6
        self.world.claim(in_time, f"{self.record} is idle, and had asked for {due}")

    async def handle_call(self, request: Ask | Overflow) -> object:
        self.begin(request)
        question = content(request)
        if not isinstance(question, Ask):
            self.world.claim(False, f"{self.record} is asked {question}")
            return None
        asked = begin_call(self.world, self.record, question, self.context.call_deadline)
        if asked is None:
            return None
        match question.action:
            case "defer":
                self.nursery.start_soon(self.reply_later, asked, self.reply_to())
                return DEFERRED
            case "forget" if self.world.storm:
                self.forgotten.append(self.reply_to())  # kept, and never used
                return DEFERRED
            case "forward" if question.other is not None and question.other is not self.me:
                if self.forward(asked, question):
                    return DEFERRED
            case "relay":
                await self.alone(self.relay, question)
            case _:
                await self.alone(self.act, question)
        asked.returned = trio.current_time()
        return ("answer", question.token)

    def forward(self, asked: Asked, question: Ask) -> bool:
        assert question.other is not None
        asked.by, asked.forwarded = None, True
        try:
            self.reply_to().forward(question.other, attrs.evolve(question, action="nothing"))
        except OtpError:
            asked.by = self.record
            return False
        self.world.count("forwarded")
        return True

    async def reply_later(self, asked: Asked, reply_to: ReplyTo) -> None:
        self.record.helpers += 1
        try:
            await trio.sleep(self.world.random.random() * 3)
            if reply_to.reply(("answer", asked.token)):
                self.world.claim(not asked.over, f"{asked} was over, and got an answer")
                asked.returned = trio.current_time()
                self.world.count("deferred")
        finally:
            self.record.helpers -= 1

    # -- what it does

    async def alone(self, fn: Callable[[Any], Awaitable[None]], argument: object) -> None:
        """Nothing else of the actor's handlers runs meanwhile."""
        self.world.claim(not self.record.busy, f"{self.record} handles two things at once")
        self.world.claim(not self.record.terminated, f"{self.record} handles something after its end")
        self.record.busy = True
        try:
            await fn(argument)
        finally:
            self.record.busy = False

    async def act(self, what: Note | Ask) -> None:
        world, record, random = self.world, self.record, self.world.random
        match what.action:
            case "sleep":
                await trio.sleep(random.random() * 2)
            case "hang" if world.storm:
                with trio.move_on_after(100):
                    await world.calm.wait()
            case "crash" if world.chance(1):
                raise Boom("handler")
            case "stop" if world.chance(1):
                record.stops = True
                self.stop()
            case "raise" if world.chance(1):
                record.stops = True
                raise Stop(random.choice([None, "enough"]))
            case "again" if world.storm:
                try:
                    post(world, self.note("nothing"), self.send_self)
                except OtpError:
                    pass
            case "timer":
                tick = Tick(trio.current_time() + random.random() * 5, record)
                timer = self.at(tick.due, tick)
                if random.random() < 0.3:
                    tick.cancelled = timer.cancel()
            case "beat":
                tick = Tick(trio.current_time(), record)
                tick.timer = self.every(0.1 + random.random(), tick)
            case "continue":
                record.continues += 1
                self.continue_with(record)
            case "idle":
                seconds = random.random() * 3
                record.idle_at = trio.current_time() + seconds
                self.idle_after(seconds)
            case "monitor" if what.other is not None:
                ties.monitor(self, what.other)
            case "demonitor":
                ties.demonitor(self)
            case "link" if what.other is not None and world.storm:
                ties.link(self, what.other)
            case "unlink":
                ties.unlink(self)
            case "link group" if world.storm:
                ties.link_group(self, random.choice(ties.GROUPS))
            case "unlink group" if record.linked:
                ties.unlink_group(self, random.choice(list(record.linked)))
            case "join":
                ties.join(self, random.choice(ties.GROUPS))
            case "leave":
                ties.leave(self, random.choice(ties.GROUPS))
            case "watch":
                ties.watch(self, random.choice(ties.GROUPS))
            case "alias":
                addresses.hand_out(self)
            case "question" if what.other is not None:
                addresses.put_question(self, what.other)
            case "answer" if isinstance(what, Note) and what.question is not None:
                addresses.answer(world, what.question)
            case "helper":
                self.begin_helper()
            case "in turn":
                for _ in range(random.choice([1, 3])):
                    self.nursery.start_soon(self.take_turns)
            case "hold":
                self.nursery.start_soon(self.hold)
            case _:
                pass

    def note(self, action: str) -> Note:
        return Note(self, self.world.number(), action)

    async def relay(self, request: Ask) -> None:
        """Call somebody else, which must not take longer than the own caller waits."""
        if request.other is None:
            return
        deadline = self.context.call_deadline
        try:
            await ask(self.world, request.other, "nothing", timeout=5.0, deadline=deadline)
        finally:
            self.world.claim(trio.current_time() <= deadline, f"{self.record} waited longer than its caller")

    # -- what runs beside its handlers

    def begin_helper(self) -> None:
        self.nursery.start_soon(self.help)

    async def help(self) -> None:
        self.record.helpers += 1
        try:
            for _ in range(self.world.random.randint(1, 10)):
                await trio.sleep(self.world.random.random() * 5)
                if self.world.chance(0.05):
                    raise Boom("helper")
            if self.world.chance(0.1):
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.world.random.random() * 5)
        finally:
            self.record.helpers -= 1

    async def take_turns(self) -> None:
        self.record.helpers += 1
        try:
            await trio.sleep(self.world.random.choice([0.0, self.world.random.random()]))
            await self.in_turn(self.take_turn)
        except OtpError:  # there was no room
            pass
        finally:
            self.record.helpers -= 1

    async def take_turn(self) -> None:
        self.begin("a turn")
        await self.alone(self.act, self.note("sleep"))

    async def hold(self) -> None:
        """Have work that is to be finished when the service drains."""
        world, record = self.world, self.record
        with self.context.drains():
            record.tasks += 1
            world.holding[record.path] += 1
            try:
                await self.context.draining.wait()
                await trio.sleep(world.random.random() * 20)
            finally:
                world.holding[record.path] -= 1
                world.released = trio.current_time()
                record.tasks -= 1
