"""Calls from both ends: each ends once, in one of the ways that it may, and no answer is lost."""

from __future__ import annotations

import math
from typing import Any

import trio

from otp import NotAlive, OtpError, PendingCall, Ref
from tests.otp.soak.messages import Ask
from tests.otp.soak.world import Asked, Record, World


async def ask(world: World, ref: Ref, action: str, *, timeout: float, deadline: float = math.inf, **more: Any) -> None:
    """Call, and see that it ends as it may."""
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
            world.claim(world.refuses(ref), f"{ref} was called in vain, but is not stopping")
        late = isinstance(error, TimeoutError) and asked.returned == trio.current_time()
        world.claim(asked.returned is None or late, f"the answer to {asked} was lost: {error}")
        if isinstance(error, TimeoutError):
            world.claim(trio.current_time() >= asked.until - 1e-9, f"{asked} timed out too early")
            world.claim(may_time_out(world, asked, world.by_ref[ref]), f"{asked} timed out, but {ref} had ended before")
        raise
    finally:
        world.claim(trio.current_time() <= now + timeout + 1e-9, f"{asked} ended too late, {what}")
        world.claim(not asked.over, f"{asked} ended twice")
        asked.over = True
        del world.asked[asked.token]
        world.count(f"call {what}")


def may_time_out(world: World, asked: Asked, called: Record) -> bool:
    """Not if somebody has ended who owed the answer: that is told at once. What nobody has begun may be kept."""
    now = trio.current_time()
    if asked.by is not None:
        return asked.by.closed in (None, now)
    return asked.forwarded or called.keeps or called.closed in (None, now)


def begin_call(world: World, record: Record, request: Ask, deadline: float) -> Asked | None:
    """It is being handled, until `deadline`; None if it should not be."""
    asked = world.asked.get(request.token)
    if world.claim(asked, f"{record} began {request}, whose caller has gone"):
        assert asked is not None
        world.claim(asked.by is None, f"{record} began {request}, which {asked.by} has begun")
        world.claim(not asked.over, f"{record} began {request}, for which nobody waits")
        world.claim(deadline <= asked.until, f"{request} may take longer than its caller waits")
        asked.by = record
    return asked


# -- calls that are not waited for at once -----------------------------------------------------------------


def asked_for(world: World, ref: Ref, action: str) -> tuple[Asked, PendingCall[Any]]:
    """Call without waiting; there is no deadline."""
    asked = Asked(world.number(), math.inf, world.by_ref.get(ref))
    world.asked[asked.token] = asked
    call = ref.request(Ask(asked.token, action))
    asked.taken = not call.done
    return asked, call


def look_at(world: World, asked: Asked, call: PendingCall[Any]) -> None:
    """It is done."""
    world.claim(not asked.over, f"{asked} has ended twice")
    asked.over = True
    try:
        world.claim(call.result() == ("answer", asked.token), f"{call} is no answer to {asked}")
        world.count("request answered")
    except OtpError as error:
        world.claim(asked.returned is None, f"the answer to {asked} was lost: {error}")
        world.count(f"request {type(error).__name__}")


def look_at_those_left_behind(world: World) -> None:
    """At rest all calls are over: they were answered, by whichever incarnation, or it was told that nobody will."""
    for asked, call in world.left_behind:
        if world.claim(call.done, f"{asked} was neither answered nor refused"):
            look_at(world, asked, call)
        del world.asked[asked.token]
    world.left_behind.clear()


def check_kept_calls(world: World, record: Record) -> None:
    """It has ended: what it has not begun is for the next incarnation, until the supervisor says there is none."""
    if not (record.keeps and record.kind == "actor"):
        return
    for asked, call in world.left_behind:
        if asked.called is record and asked.taken and not asked.forwarded and asked.by is None:
            world.claim(not call.done, f"{record} has ended, and {asked}, which it had not begun, is over")
