"""Actors and other children that tests supervise, and what they tell about their lives."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from otp import Actor, ExitReason, Ref, SupervisorRef
from otp._supervisor import SupervisorTask


class Boom(Exception):
    pass


class Echo(Actor):
    """Answers calls with what they bring; a callable message is called in the handler, with the actor."""

    async def handle_message(self, message: Any) -> None:
        await perform(self, message)

    async def handle_call(self, request: Any) -> Any:
        if callable(request):
            return await perform(self, request)
        return request


async def perform(actor: Actor, action: Any) -> Any:
    result = action(actor)
    return await result if isinstance(result, Awaitable) else result


def boom(_: Actor) -> None:
    raise Boom


def sleeps(seconds: float) -> Callable[[Actor], Awaitable[None]]:
    """A message that keeps the actor busy."""

    async def busy(_: Actor) -> None:
        await trio.sleep(seconds)

    return busy


def up(ref: Ref | None) -> Ref:
    """What was started on request, which did not ask to be left out."""
    assert ref is not None
    return ref


class Journal:
    """What happened, in order, as short strings; and children that write it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines

    def actor(self, id_: str, **hooks: Callable[[Actor], object]) -> Callable[[], Actor]:
        """A factory of actors that write `+id` when they start and `-id reason` when they end.

        The hooks `init` and `terminate` are called with the actor, and awaited if need be.
        """
        journal = self

        class Writer(Echo):
            async def init(self) -> None:
                if "init" in hooks:
                    await perform(self, hooks["init"])
                journal(f"+{id_}")

            async def terminate(self, reason: ExitReason) -> None:
                journal(f"-{id_} {reason}")
                if "terminate" in hooks:
                    await perform(self, hooks["terminate"])

        return Writer


def shell_of(supervisor: SupervisorRef) -> SupervisorTask:
    """What runs a supervisor, to look inside."""
    task = supervisor._task
    assert isinstance(task, SupervisorTask)
    return task
