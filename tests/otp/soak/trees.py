"""Random trees: every strategy, nested and dynamic supervisors, and specs of all sorts."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from otp import Backoff, ChildSpec, RestartBudget, Supervisor, child, partitioned
from otp._spec import BoundStart
from tests.otp.soak.children import KINDS
from tests.otp.soak.messages import a_mailbox
from tests.otp.soak.worker import Worker

if TYPE_CHECKING:
    from random import Random

    from tests.otp.soak.world import World

STRATEGIES: Any = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")


# All of one period: if a change made that longer, what counts would depend on who has looked at the window meanwhile.
BUDGETS = [None] * 6 + [
    RestartBudget(intensity=1, period=10.0, on_exceed="park"),
    RestartBudget(intensity=2, period=10.0, on_exceed="drop"),
    RestartBudget(intensity=2, period=10.0, on_exceed="escalate"),
]


def a_tree(
    world: World, depth: int, *, intensity: int | None = None, named: bool = True, strategies: Any = STRATEGIES
) -> Supervisor:
    """Without names where there may be several of it at a time."""
    random = world.random
    strategy = random.choice(strategies)
    simple = strategy == "simple_one_for_one"
    auto_shutdown: Any = "never" if simple else random.choice([*["never"] * 8, "any_significant", "all_significant"])
    named = named and not simple
    significant = auto_shutdown != "never"
    ids = [f"c{i}" for i in range(1 if simple else random.randint(0, 5))]
    return Supervisor(
        [a_child(world, depth, id_, template=simple, named=named, significant=significant) for id_ in ids],
        strategy=strategy,
        intensity=random.choice([0, 1, 3, 10, 50]) if intensity is None else intensity,
        period=random.choice([1.0, 5.0, 30.0]),
        backoff=a_backoff(random),
        auto_shutdown=auto_shutdown,
        max_children=random.choice([None, 3]) if simple else None,
    )


def a_child(
    world: World, depth: int, id_: str, *, template: bool = False, named: bool = True, significant: bool = False
) -> ChildSpec:
    random = world.random
    restart: Any = random.choice(["permanent", "permanent", "permanent", "transient", "temporary"])
    options: dict[str, Any] = {
        "id": id_,
        "restart": restart,
        "significant": significant and restart != "permanent",
        "backoff": a_backoff(random),
        "budget": random.choice(BUDGETS),
    }
    if depth and random.random() < 0.35:
        if random.random() < 0.3:  # one that is made anew for each incarnation
            made = partial(a_made_tree, world, depth - 1, named)
            return child(made, shutdown="infinity", init_timeout=math.inf, **options)
        if not template and random.random() < 0.3:
            below = random.choice([0, 0, depth - 1])
            copy = a_child(world, below, id_, named=named and not below)  # the copies of a tree have the same names
            number, intensity = random.randint(1, 4), random.choice([3, 50])
            return child(partitioned(copy, number, intensity=intensity, backoff=a_backoff(random)), **options)
        if not template:
            return child(a_tree(world, depth - 1, named=named), **options)
    kind = random.choice(KINDS)
    name = None
    if named and random.random() < 0.4:
        name = f"name {world.number()}"
        if kind is Worker:
            world.names.append(name)
    return child(
        partial(kind, world),
        shutdown=random.choice(["brutal", "infinity", 0.0, 0.5, 5.0, 5.0, 30.0]),
        init_timeout=random.choice([1.0, 30.0]),
        mailbox=a_mailbox(world),
        name=name,
        **options,
    )


def a_made_tree(world: World, depth: int, named: bool, *_: object) -> Supervisor:
    return a_tree(world, depth, named=named)


def is_tree(spec: ChildSpec) -> bool:
    return spec.is_supervisor or _made_by(spec) is a_made_tree


def is_worker(spec: ChildSpec) -> bool:
    return _made_by(spec) is Worker


def is_partitioned(spec: Supervisor) -> bool:
    return bool(spec.children) and spec.strategy == "one_for_one" and spec.children[0].id.endswith(":0")


def _made_by(spec: ChildSpec) -> object:
    made = spec.start.start if isinstance(spec.start, BoundStart) else spec.start
    return made.func if isinstance(made, partial) else None


def a_backoff(random: Random) -> Backoff | None:
    return random.choice([None, None, None, Backoff(initial=0.2, cap=5.0, jitter=0.5, reset_after=10.0)])
