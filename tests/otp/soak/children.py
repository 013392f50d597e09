"""Children of every kind that get into trouble by lot, and report to the world what happens to them."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from otp import (
    DEFERRED,
    Actor,
    Behaviour,
    ChildContext,
    Down,
    Exited,
    ExitReason,
    Ignore,
    Monitor,
    NotAlive,
    OtpError,
    Ref,
    ReplyTo,
    Stop,
    Timer,
)
from otp._life import life_at
from tests.otp.soak.world import Asked, Boom, Record, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@attrs.frozen
class Note:
    """A message: from whom, which one of theirs, and what it is to cause."""

    sender: object
    number: int
    action: str
    other: Ref | None = None


@attrs.frozen
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
    timer: Timer | None = None
    cancelled: bool = False
    came: int = 0


ACTIONS = (
    *("nothing",) * 8,
    *("sleep", "sleep", "crash", "stop", "raise", "hang", "again", "helper", "in turn"),
    *("timer", "timer", "beat", "continue", "idle", "monitor", "monitor", "link", "link"),
)
ANSWERS = (
    *("nothing",) * 6,
    *("sleep", "sleep", "crash", "stop", "hang", "relay", "relay", "defer", "defer", "forget", "forward"),
)


async def get_into_trouble_at_start(world: World) -> None:
    if world.chance(0.3):
        await trio.sleep(world.random.random() * 3)
    if world.chance(0.02):
        world.count("an init hangs")
        await world.calm.wait()
    if world.chance(0.12):
        raise world.random.choice([Boom("init"), Boom("init"), Ignore(), Stop(), Stop("init")])


async def get_into_trouble_at_the_end(world: World, record: Record) -> None:
    record.ending = True
    if world.chance(0.3):
        await trio.sleep(world.random.random() * 10)
    if world.chance(0.05):
        world.count("a child refuses to stop")
        with trio.CancelScope(shield=True):
            await trio.sleep(world.random.random() * 15)
    if world.chance(0.08):
        raise Boom("end")


class Worker(Actor):
    def __init__(self, world: World, *_: object) -> None:
        if world.chance(0.05):
            raise Boom("factory")
        self.world = world
        self.record = world.enter("actor")
        self.monitors: set[Monitor] = set()
        self.forgotten: list[ReplyTo] = []
        self.idle_since: float | None = None

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
            self.send_self(Note(self, 0, "nothing"))
        if self.world.chance(0.02):
            early = 0  # what it sent itself before is dropped by that, without a word
            self.stop()
        self.record.sent += early
        self.record.up = True

    async def handle_message(self, message: Note | Tick | Down | Exited) -> None:
        record = self.record
        self.world.claim(not record.continues, f"{record.path} got {message} before it had gone on")
        match message:
            case Note():
                await self.take_note(message)
            case Tick():
                self.take_tick(message)
            case Down():
                self.world.claim(message.monitor in self.monitors, f"{record.path} got {message}, but watches it not")
                self.monitors.discard(message.monitor)
                self.world.claim(
                    message.ref is None or not message.ref.alive, f"{record.path} got {message} of a living"
                )
                self.world.count("down")
            case Exited():
                self.world.claim(not message.ref.alive, f"{record.path} got {message} of a living")
                self.world.count("exited")

    async def take_note(self, message: Note) -> None:
        record = self.record
        record.begun += 1
        if message.sender is not self:
            before = record.last.get(message.sender, 0)
            self.world.claim(before < message.number, f"{record.path} got {message} after number {before}")
            record.last[message.sender] = message.number
        await self.alone(self.act, message)

    def take_tick(self, tick: Tick) -> None:
        record = self.record
        tick.came += 1
        self.world.count("tick")
        self.world.claim(tick.owner is record, f"{record.path} got a timer of an earlier incarnation")
        self.world.claim(not tick.cancelled, f"{record.path} got {tick}, which was cancelled")
        self.world.claim(trio.current_time() >= tick.due, f"{record.path} got {tick} too early")
        if tick.came == 3 and tick.timer is not None:
            tick.cancelled = True
            tick.timer.cancel()

    async def handle_continue(self, what: object) -> None:
        self.record.continues -= 1
        self.world.count("continued")
        self.world.claim(what is self.record, f"{self.record.path} goes on with {what}")

    async def handle_idle(self) -> None:
        self.world.count("idle")
        self.world.claim(self.idle_since is not None, f"{self.record.path} is idle, and had not asked for it")

    async def handle_call(self, request: Ask) -> object:
        asked = self.world.asked.get(request.token)
        if not self.world.claim(asked, f"{self.record.path} began {request}, whose caller has gone"):
            return None
        assert asked is not None
        self.world.claim(not asked.begun, f"{self.record.path} began {request} twice")
        self.world.claim(self.context.call_deadline <= asked.until, f"{request} may take longer than its caller waits")
        asked.begun = True
        self.world.claim(not self.record.continues, f"{self.record.path} got {request} before it had gone on")
        match request.action:
            case "defer":
                self.nursery.start_soon(self.reply_later, asked, self.reply_to())
                return DEFERRED
            case "forget" if self.world.storm:
                self.forgotten.append(self.reply_to())  # kept, and never used
                return DEFERRED
            case "forward" if request.other is not None and request.other is not self.me:
                asked.begun, asked.forwarded = False, True
                try:
                    self.reply_to().forward(request.other, attrs.evolve(request, action="nothing"))
                except OtpError:
                    asked.begun, asked.forwarded = True, False
                else:
                    self.world.count("forwarded")
                    return DEFERRED
            case "relay":
                await self.alone(self.relay, request)
            case _:
                await self.alone(self.act, request)
        asked.returned = trio.current_time()
        return ("answer", request.token)

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

    async def terminate(self, reason: ExitReason) -> None:
        self.world.claim(self.record.up, f"{self.record.path} is terminated, but was never up")
        self.world.claim(not self.record.terminated, f"{self.record.path} is terminated twice")
        cleanup = self._life.cleanup
        in_time = cleanup is not None and trio.current_time() < cleanup.deadline
        self.world.claim(not (in_time and self.record.helpers), f"{self.record.path} is terminated beside its helpers")
        self.record.terminated = True
        self.record.closed = trio.current_time()
        await get_into_trouble_at_the_end(self.world, self.record)

    # -- what they do

    async def alone(self, fn: Callable[[Any], Awaitable[None]], argument: object) -> None:
        """Nothing else of the actor's handlers runs meanwhile."""
        self.world.claim(not self.record.busy, f"{self.record.path} handles two things at once")
        self.world.claim(not self.record.terminated, f"{self.record.path} handles something after its end")
        self.record.busy = True
        try:
            await fn(argument)
        finally:
            self.record.busy = False

    async def act(self, what: Note | Ask) -> None:
        world = self.world
        match what.action:
            case "sleep":
                await trio.sleep(world.random.random() * 2)
            case "hang" if world.storm:
                with trio.move_on_after(100):
                    await world.calm.wait()
            case "crash" if world.storm:
                raise Boom("handler")
            case "stop" if world.storm:
                self.stop()
            case "raise" if world.storm:
                raise Stop(world.random.choice([None, "enough"]))
            case "again" if world.storm:
                try:
                    self.send_self(Note(self, 0, "nothing"))
                except OtpError:
                    return
                self.record.sent += 1
            case "timer":
                tick = Tick(trio.current_time() + world.random.random() * 5, self.record)
                timer = self.at(tick.due, tick)
                if world.random.random() < 0.3:
                    tick.cancelled = timer.cancel()
            case "beat":
                tick = Tick(trio.current_time(), self.record)
                tick.timer = self.every(0.1 + world.random.random(), tick)
            case "continue":
                self.record.continues += 1
                self.continue_with(self.record)
            case "idle":
                self.idle_since = trio.current_time()
                self.idle_after(world.random.random() * 3)
            case "monitor" if what.other is not None:
                monitor = self.monitor(what.other)
                if world.random.random() < 0.2:
                    self.demonitor(monitor)
                else:
                    self.monitors.add(monitor)
            case "link" if what.other is not None and world.storm:
                self.trap_exits(on=world.random.random() < 0.5)
                try:
                    self.link(what.other, one_way=world.random.random() < 0.5)
                    world.count("linked")
                except OtpError:
                    pass
            case "helper":
                self.begin_helper()
            case "in turn":
                self.nursery.start_soon(self.take_turns)
            case _:
                pass

    async def relay(self, request: Ask) -> None:
        """Call somebody else, which must not take longer than the own caller waits."""
        assert request.other is not None
        deadline = self.context.call_deadline
        try:
            await ask(self.world, request.other, "nothing", timeout=5.0, deadline=deadline)
        finally:
            self.world.claim(trio.current_time() <= deadline, f"{self.record.path} waited longer than its caller")

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
            await trio.sleep(self.world.random.random())
            await self.in_turn(lambda: self.alone(self.act, Note(self, 0, "sleep")))
        except OtpError:  # there was no room
            pass
        finally:
            self.record.helpers -= 1


async def ask(world: World, ref: Ref, action: str, *, timeout: float, deadline: float = math.inf, **more: Any) -> None:
    """Call, and see that it ends in exactly one of the ways that it may."""
    now = trio.current_time()
    asked = Asked(world.number(), min(now + timeout, deadline, trio.current_effective_deadline()))
    world.asked[asked.token] = asked
    what = "cancelled"
    try:
        answer = await ref.call(Ask(asked.token, action, **more), timeout=timeout)
        what = "answered"
        world.claim(answer == ("answer", asked.token), f"the answer to {asked} is {answer}")
        world.claim(asked.returned is not None, f"{asked} was answered by nobody")
    except OtpError as error:
        what = type(error).__name__
        if isinstance(error, NotAlive) and not asked.forwarded:
            life = life_at(ref)
            closed = life.stop_asked or life.box.reason is not None
            world.claim(closed, f"{ref} was called in vain, but is not stopping")
        late = isinstance(error, TimeoutError) and asked.returned == trio.current_time()
        world.claim(asked.returned is None or late, f"the answer to {asked} was lost: {error}")
        if isinstance(error, TimeoutError):
            world.claim(trio.current_time() >= asked.until - 1e-9, f"{asked} timed out too early")
            record = world.by_ref[ref]
            told = asked.forwarded or record.closed in (None, trio.current_time())
            world.claim(told, f"{asked} timed out, but {record.path} had ended before")
        raise
    finally:
        world.claim(trio.current_time() <= now + timeout + 1e-9, f"{asked} ended too late, {what}")
        world.claim(not asked.over, f"{asked} ended twice")
        asked.over = True
        del world.asked[asked.token]
        world.count(f"call {what}")


# -- other kinds


def task(world: World, *_: object) -> Awaitable[None]:
    if world.chance(0.05):
        raise Boom("factory")
    return _task(world, world.enter("task"))


async def _task(world: World, record: Record) -> None:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            while True:
                await trio.sleep(world.random.random() * 20)
                if world.chance(0.3):
                    raise world.random.choice([Boom("task"), Stop(), Stop("task")])
                if world.chance(0.2):
                    nursery.cancel_scope.cancel()
    finally:
        try:
            await get_into_trouble_at_the_end(world, record)
        finally:
            world.leave(record)


def brief(world: World) -> Awaitable[None]:
    """A task that ends soon, whatever the weather."""
    return _brief(world, world.enter("brief"))


async def _brief(world: World, record: Record) -> None:
    try:
        await trio.sleep(world.random.random() * 3)
    finally:
        world.leave(record)


class Plain(Behaviour):
    def __init__(self, world: World, *_: object) -> None:
        self.world = world
        self.record = world.enter("plain")

    async def serve(self, context: ChildContext) -> None:
        try:
            await get_into_trouble_at_start(self.world)
            context.condition("works", ok=not self.world.chance(0.5))
            self.record.up = True
            context.started()
            try:
                with trio.move_on_after(self.world.random.random() * 60 if self.world.storm else math.inf):
                    await context.stopping.wait()
                if self.world.chance(0.5):
                    raise Boom("plain")
                if not context.stop_asked and not self.world.storm:
                    await context.stopping.wait()
            finally:
                with context.cleanup():
                    await get_into_trouble_at_the_end(self.world, self.record)
        finally:
            self.world.leave(self.record)


class Context(AbstractAsyncContextManager[None]):
    def __init__(self, world: World, *_: object) -> None:
        self.world = world
        self.record = world.enter("context")

    async def __aenter__(self) -> None:
        try:
            await get_into_trouble_at_start(self.world)
        except BaseException:
            self.world.leave(self.record)
            raise
        self.record.up = True

    async def __aexit__(self, *_: object) -> None:
        try:
            await get_into_trouble_at_the_end(self.world, self.record)
        finally:
            self.world.leave(self.record)


KINDS = (Worker, Worker, Worker, Worker, task, Plain, Context)
