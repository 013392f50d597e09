"""Random trees: every strategy, nested and dynamic supervisors, and specs of all sorts."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from otp import Backoff, ChildSpec, Supervisor, child
from tests.otp.soak.children import KINDS

if TYPE_CHECKING:
    from random import Random

    from tests.otp.soak.world import World

STRATEGIES: Any = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")


def a_tree(world: World, depth: int, *, intensity: int | None = None, named: bool = True) -> Supervisor:
    """Without names where there may be several of it at a time."""
    random = world.random
    strategy = random.choice(STRATEGIES if depth < 3 else STRATEGIES[:3])  # the root is none of simple ones
    simple = strategy == "simple_one_for_one"
    named = named and not simple
    number = 1 if simple else random.randint(0, 5)
    children = [a_child(world, depth, f"c{i}", template=simple, named=named) for i in range(number)]
    return Supervisor(
        children,
        strategy=strategy,
        intensity=random.choice([0, 1, 3, 10, 50]) if intensity is None else intensity,
        period=random.choice([1.0, 5.0, 30.0]),
        backoff=a_backoff(random),
    )


def a_child(world: World, depth: int, id_: str, *, template: bool = False, named: bool = True) -> ChildSpec:
    random = world.random
    restart: Any = random.choice(["permanent", "permanent", "permanent", "transient", "temporary"])
    if depth and random.random() < 0.35:
        subtree: Any = a_tree(world, depth - 1, named=named)
        if random.random() < 0.3:  # or one that is made anew for each incarnation
            subtree = partial(a_made_tree, world, depth - 1, named)
            return child(subtree, id=id_, restart=restart, shutdown="infinity", init_timeout=math.inf)
        if not template:
            return child(subtree, id=id_, restart=restart)
    shutdown: Any = random.choice(["brutal", "infinity", 0.0, 0.5, 5.0, 5.0, 30.0])
    return child(
        partial(random.choice(KINDS), world),
        id=id_,
        restart=restart,
        shutdown=shutdown,
        init_timeout=random.choice([1.0, 30.0]),
        backoff=a_backoff(random),
        mailbox=random.choice([1, 3, 100]),
        name=None if not named or random.random() < 0.6 else f"name {world.number()}",
    )


def a_made_tree(world: World, depth: int, named: bool, *_: object) -> Supervisor:
    return a_tree(world, depth, named=named)


def a_backoff(random: Random) -> Backoff | None:
    return random.choice([None, None, None, Backoff(initial=0.2, cap=5.0, jitter=0.5, reset_after=10.0)])
