"""What clients ask of supervisors: start, stop, restart, forget, change."""

from __future__ import annotations

from functools import partial

import attrs

from otp import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    FailedToStart,
    MaxChildren,
    SupervisorRef,
    WrongStrategy,
    child,
)
from tests.otp.soak.children import brief
from tests.otp.soak.client import Client, operation, supervisors
from tests.otp.soak.trees import STRATEGIES, a_child, a_tree, is_tree, is_worker


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

        async def start() -> None:
            ref = await supervisor.start_instance("x", key=key)
            if ref is not None and key is not None:
                client.world.claim(ref.id.endswith(f":{key}"), f"{ref} is the instance of {key!r}")

        await client.ask_for("start_instance", start, *errors)


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
    """What is a supervisor stays one: its `shutdown` holds at once, and would cut short the one that runs.

    An actor stays one as well: another kind of child would not read what the last incarnation has left.
    """
    if old is None:
        return new
    if is_tree(old) or is_tree(new):
        return attrs.evolve(new, start=old.start, shutdown=old.shutdown, init_timeout=old.init_timeout, name=None)
    return attrs.evolve(new, start=old.start) if is_worker(old) else new


def _is_simple(supervisor: SupervisorRef) -> bool:
    return supervisor.statistics().strategy == "simple_one_for_one"
