"""Clients: somebody outside of the tree does one thing after another to it.

An operation is a function with the decorator; a new feature of the runtime gets one, and is in the soak. They are in
`operations` and `administration`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from otp import NotAlive, Ref, SupervisorRef, SupervisorStopped
from tests.otp.soak.messages import ACTIONS, Note

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.otp.soak.world import World

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
        """Mostly of an actor; perhaps of anybody, of somebody who has ended, or an alias, which may be revoked."""
        lot = self.random.random()
        if lot < 0.1:
            refs = [*self.old_refs, *self.world.aliases]
        elif lot < 0.2:
            refs = [info.ref for info in self.supervisor().which_children() if info.ref is not None]
        else:
            refs = [each.life.ref for each in self.world.alive.values() if each.reads]
        if not refs:
            return None
        ref = self.random.choice(refs)
        self.old_refs = [*self.old_refs[-10:], ref]
        return ref

    def id(self, supervisor: SupervisorRef) -> str:
        ids = [info.id for info in supervisor.which_children()]
        return self.random.choice([*ids, *ids, *ids, "c9", "nobody", "c0:1"])

    def note(self, *, to_many: bool = False) -> Note:
        self.number += 1
        return Note(self.me, self.number, self.random.choice(ACTIONS), self.ref(), to_many=to_many)

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


def supervisors(root: SupervisorRef) -> Iterator[SupervisorRef]:
    yield root
    for info in root.which_children():
        try:
            below = root.supervisor(info.id)
        except (NotAlive, TypeError):
            continue
        yield from supervisors(below)
