"""What clients do to a tree, and what may come of it.

An operation is a function with the decorator; a new feature of the runtime gets one here, and is in the soak.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import trio

from otp import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    FailedToStart,
    MailboxFull,
    MaxChildren,
    NoMailbox,
    NotAlive,
    OtpError,
    PendingCall,
    PendingCalls,
    Ref,
    SupervisorRef,
    SupervisorStopped,
    WrongStrategy,
    call,
    child,
    send,
    whereis,
)
from otp._life import life_at
from otp.testing import crash
from tests.otp.soak.children import ACTIONS, ANSWERS, Ask, Note, ask, brief
from tests.otp.soak.trees import STRATEGIES, a_child, a_tree, is_tree
from tests.otp.soak.world import Asked, Boom, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

PATIENCE: Final = 500.0
"""Virtual seconds within which every request to a supervisor is served: the longest stops and starts of a round."""


class Client:
    """Somebody outside of the tree, who does one thing after another."""

    def __init__(self, world: World, root: SupervisorRef) -> None:
        self.world = world
        self.random = world.random
        self.root = root
        self.me = world.number()
        self.number = 0
        self.old_refs: list[Ref] = []

    async def run(self, often: int) -> None:
        operations, weights = list(OPERATIONS), list(OPERATIONS.values())
        for _ in range(often):
            await trio.sleep(self.random.choice([0.0, 0.0, self.random.random() * 0.5]))
            if self.world.violations or not self.root.alive:
                return
            (operation,) = self.random.choices(operations, weights)
            await operation(self)

    # -- whom it picks

    def supervisor(self) -> SupervisorRef:
        return self.random.choice(list(supervisors(self.root)))

    def ref(self) -> Ref | None:
        """Of anybody, perhaps of somebody who has ended."""
        if self.old_refs and self.random.random() < 0.1:
            return self.random.choice(self.old_refs)
        refs = [info.ref for info in self.supervisor().which_children() if info.ref is not None]
        actors = [ref for ref in refs if ref in self.world.by_ref and self.world.by_ref[ref].kind == "actor"]
        if not refs:
            return None
        ref = self.random.choice(actors if actors and self.random.random() < 0.9 else refs)
        self.old_refs = [*self.old_refs[-20:], ref]
        return ref

    def id(self, supervisor: SupervisorRef) -> str:
        ids = [info.id for info in supervisor.which_children()]
        return self.random.choice([*ids, *ids, *ids, "c9", "nobody", "c0:1"])

    def note(self) -> Note:
        self.number += 1
        return Note(self.me, self.number, self.random.choice(ACTIONS), self.ref())

    # -- what comes of it

    async def ask_for(self, what: str, request: Callable[[], Awaitable[object]], *allowed: type[Exception]) -> bool:
        """Have a request to a supervisor served; whether it was and there is something to be seen of it."""
        impatient = self.random.random() < 0.1
        patience = self.random.random() * 5 if impatient else PATIENCE
        with trio.move_on_after(patience):
            try:
                await request()
            except Exception as error:
                if not isinstance(error, (*allowed, SupervisorStopped)):
                    raise
                self.world.count(f"{what} {type(error).__name__}")
                return False
            self.world.count(what)
            return True
        self.world.claim(impatient, f"{what} was not served within {patience} s")
        return False


Operation: TypeAlias = "Callable[[Client], Awaitable[None]]"
OPERATIONS: Final[dict[Operation, int]] = {}


def operation(weight: int) -> Callable[[Operation], Operation]:
    def add(fn: Operation) -> Operation:
        OPERATIONS[fn] = weight
        return fn

    return add


def refuses(ref: Ref) -> bool:
    """Whether its mailbox is closed, or about to be."""
    life = life_at(ref)
    return life.stop_asked or life.box.reason is not None


def supervisors(root: SupervisorRef) -> Iterator[SupervisorRef]:
    yield root
    for info in root.which_children():
        try:
            below = root.supervisor(info.id)
        except (NotAlive, TypeError):
            continue
        yield from supervisors(below)


# -- messages and calls ------------------------------------------------------------------------------------


@operation(20)
async def send_to(client: Client) -> None:
    ref = client.ref()
    if ref is not None:
        await _deliver(client, ref, wait=False)


@operation(5)
async def send_and_wait_for_room(client: Client) -> None:
    ref = client.ref()
    if ref is not None:
        with trio.move_on_after(client.random.choice([0.0, 1.0, 60.0])):
            await _deliver(client, ref, wait=True)


async def _deliver(client: Client, ref: Ref, *, wait: bool) -> None:
    world, note = client.world, client.note()
    ended = not ref.alive
    try:
        if wait:
            await ref.send_wait(note)
        else:
            ref.send(note)
    except NotAlive:
        world.claim(refuses(ref), f"{ref} refuses {note}, but is not stopping")
        world.count("send NotAlive")
    except MailboxFull:
        world.claim(ref.mailbox().unread >= ref.mailbox().limit, f"{ref} refuses {note}, but has room")
        world.count("send MailboxFull")
    except NoMailbox:
        record = world.by_ref.get(ref)
        world.claim(record is None or record.kind != "actor", f"{ref} refuses {note}, but is an actor")
        world.count("send NoMailbox")
    else:
        world.claim(not ended, f"{ref} took {note}")
        world.by_ref[ref].sent += 1
        world.count("send")


@operation(20)
async def call_somebody(client: Client) -> None:
    random, ref, other = client.random, client.ref(), client.ref()
    if ref is None:
        return
    action = random.choice(ANSWERS)
    with trio.move_on_after(random.choice([200.0, 200.0, 200.0, random.random() * 2])):
        try:
            timeout = random.choice([5.0, 5.0, 5.0, 0.0, 0.5, 60.0])
            await ask(client.world, ref, action if other is not None else "sleep", timeout=timeout, other=other)
        except OtpError:
            pass


@operation(5)
async def ask_several(client: Client) -> None:
    """Calls that are not waited for at once: each ends once, in one of the ways that it may."""
    world, random = client.world, client.random
    refs = [ref for _ in range(random.randint(1, 4)) if (ref := client.ref()) is not None]
    # They have no deadline of their own, so they are waited for until the callee has answered or ended.
    everyone = [asked_for(world, ref, random.choice(["nothing", "sleep", "crash", "defer"])) for ref in refs]
    try:
        with PendingCalls() as calls:
            for asked, call_ in everyone:
                calls.add(call_, label=asked)
            if random.random() < 0.5:
                with trio.move_on_after(random.random() * 3):
                    async for asked, call_ in calls:
                        look_at(world, asked, call_)
            for _, call_ in everyone[: random.randint(0, 1)]:
                try:
                    await call_.wait(timeout=random.choice([0.0, 1.0, 20.0]))
                except OtpError:
                    pass
            left = sum(not asked.over for asked, _ in everyone)
            world.claim(len(calls) == left, f"{len(calls)} of {left} calls are left")
    finally:  # those that were not done are abandoned
        for asked, call_ in everyone:
            if not asked.over:
                asked.over = True
                world.count("request abandoned" if not call_.done else "request done unseen")
            del world.asked[asked.token]


def asked_for(world: World, ref: Ref, action: str) -> tuple[Asked, PendingCall[Any]]:
    asked = Asked(world.number(), math.inf)
    world.asked[asked.token] = asked
    return asked, ref.request(Ask(asked.token, action))


def look_at(world: World, asked: Asked, call_: PendingCall[Any]) -> None:
    world.claim(not asked.over, f"{asked} has ended twice")
    asked.over = True
    try:
        world.claim(call_.result() == ("answer", asked.token), f"{call_} is no answer to {asked}")
        world.count("request answered")
    except OtpError as error:
        world.claim(asked.returned is None, f"the answer to {asked} was lost: {error}")
        world.count(f"request {type(error).__name__}")


@operation(5)
async def use_a_name(client: Client) -> None:
    world = client.world
    name = client.random.choice([*world.runtime.registry.names()] * 4 + ["nobody"])
    ref = whereis(name)
    world.claim((ref is None) == (name == "nobody"), f"the name {name!r} is {ref}'s")
    note = client.note()
    try:
        send(name, note)
    except OtpError:
        world.count("send by name: refused")
    else:
        assert ref is not None
        world.by_ref[ref].sent += 1
        world.count("send by name")
    if ref is None:
        try:
            await call(name, "x")
        except NotAlive:
            return
        world.claim(holds=False, text="nobody has answered")


@operation(2)
async def make_it_crash(client: Client) -> None:
    ref = client.ref()
    if ref is not None and ref in client.world.by_ref and client.world.storm:
        crash(ref, Boom("injected"))
        client.world.count("crash")


# -- administration ----------------------------------------------------------------------------------------


@operation(3)
async def start_a_child(client: Client) -> None:
    supervisor, world = client.supervisor(), client.world
    id_ = client.random.choice(["c0", "c1", "c7", "c8", "c9"])
    spec = a_child(world, client.random.choice([0, 0, 0, 1]), id_, significant=client.random.random() < 0.3)
    errors = AlreadyPresent, AlreadyStarted, FailedToStart, WrongStrategy, ValueError
    await client.ask_for("start_child", lambda: supervisor.start_child(spec), *errors)


@operation(2)
async def take_a_name(client: Client) -> None:
    """Of somebody who has it, or of one who just then has lost it, and will want it again soon."""
    supervisor, world = client.supervisor(), client.world
    names = list(world.runtime.registry.names())
    if names:
        name = client.random.choice(names)
        spec = child(partial(brief, world), id=f"taker {world.number()}", name=name, restart="temporary")
        errors = FailedToStart, WrongStrategy
        await client.ask_for("take a name", lambda: supervisor.start_child(spec), *errors)


@operation(6)
async def start_an_instance(client: Client) -> None:
    pools = [each for each in supervisors(client.root) if _is_simple(each)]
    supervisor = client.random.choice(pools or [client.root])
    key = client.random.choice([None, None, "k1", "k2"])
    if supervisor.count_children().active < 10 and (pools or client.random.random() < 0.1):
        errors = AlreadyPresent, AlreadyStarted, FailedToStart, MaxChildren, WrongStrategy
        await client.ask_for("start_instance", lambda: supervisor.start_instance("x", key=key), *errors)


@operation(3)
async def terminate_a_child(client: Client) -> None:
    supervisor, world = client.supervisor(), client.world
    id_ = client.id(supervisor)
    info = next((info for info in supervisor.which_children() if info.id == id_), None)
    errors = ChildNotFound, WrongStrategy
    served = await client.ask_for("terminate_child", lambda: supervisor.terminate_child(id_), *errors)
    if served and info is not None and info.ref is not None:
        world.claim(not info.ref.alive, f"{info.ref} was terminated, and lives")


@operation(5)
async def restart_a_child(client: Client) -> None:
    supervisor = client.supervisor()
    stopped = [info.id for info in supervisor.which_children() if info.status in ("stopped", "parked")]
    id_ = client.random.choice([*stopped, *stopped, client.id(supervisor)])
    errors = ChildNotFound, ChildRunning, ChildRestarting, FailedToStart, WrongStrategy
    await client.ask_for("restart_child", lambda: supervisor.restart_child(id_), *errors)


@operation(2)
async def delete_a_child(client: Client) -> None:
    supervisor = client.supervisor()
    stopped = [info.id for info in supervisor.which_children() if info.status in ("stopped", "parked")]
    id_ = client.random.choice([*stopped, client.id(supervisor)])
    errors = ChildNotFound, ChildRunning, ChildRestarting, WrongStrategy
    await client.ask_for("delete_child", lambda: supervisor.delete_child(id_), *errors)


@operation(1)
async def change_the_spec(client: Client) -> None:
    supervisor, world = client.supervisor(), client.world
    kinds = STRATEGIES[3:] if _is_simple(supervisor) != (client.random.random() < 0.1) else STRATEGIES[:3]
    now = {info.id: info.spec for info in supervisor.which_children()}
    now |= {each.id: each for each in supervisor._task.core.spec.children if _is_simple(supervisor)}
    spec = a_tree(world, client.random.choice([0, 0, 1]), strategies=kinds)
    spec = attrs.evolve(spec, children=[renewed(now.get(each.id), each) for each in spec.children])
    await client.ask_for("change", lambda: supervisor.change(spec), ValueError)


@operation(3)
async def look_around(client: Client) -> None:
    supervisor, world = client.supervisor(), client.world
    infos, count, statistics = supervisor.which_children(), supervisor.count_children(), supervisor.statistics()
    world.claim(count.active == sum(info.ref is not None for info in infos), f"{supervisor}: {count}, but {infos}")
    world.claim(
        [(info.id, info.status) for info in infos] == [(each.id, each.status) for each in statistics.children],
        f"{supervisor}: {statistics} does not agree with {infos}",
    )
    for info in infos:
        world.claim(supervisor.get_childspec(info.id) == info.spec, f"{supervisor}: the spec of {info.id} is another")


def renewed(old: ChildSpec | None, new: ChildSpec) -> ChildSpec:
    """What is a supervisor stays one: its `shutdown` holds at once, and would cut short the one that runs."""
    if old is None or not (is_tree(old) or is_tree(new)):
        return new
    return attrs.evolve(new, start=old.start, shutdown=old.shutdown, init_timeout=old.init_timeout, name=None)


def _is_simple(supervisor: SupervisorRef) -> bool:
    return supervisor.statistics().strategy == "simple_one_for_one"
