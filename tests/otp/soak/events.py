"""What the runtime tells, held against what the world knows in that very moment."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from otp import (
    ChildExited,
    ChildIgnored,
    ChildStarted,
    ChildStartFailed,
    ChildStuck,
    Crashed,
    InitTimeout,
    MailboxOverflowed,
    MessagesDropped,
    NameTaken,
    Normal,
    OtpError,
    PoisonMessage,
    SupervisorDecided,
)
from tests.otp.soak import calls, messages, ties
from tests.otp.soak.world import Boom

if TYPE_CHECKING:
    from otp import ExitReason
    from tests.otp.soak.world import World

ALLOWED: Final = Boom, OtpError
"""What may go wrong: anything else that a child crashes with is an error of the runtime, or of the soak."""


def watch(world: World, event: object) -> None:
    """See each event when it happens. A subscriber that raises would be removed, and not be missed."""
    try:
        see(world, event)
    except Exception:  # noqa: BLE001  (it is a violation)
        world.claim(False, f"{event}: {traceback.format_exc()}")


def see(world: World, event: object) -> None:
    world.count(type(event).__name__)
    match event:
        case ChildStarted():
            record = world.alive.get(event.path)
            up = record.up if record is not None else event.path in world.cores
            world.claim(up, f"{event}, but its init is not done")
        case ChildExited():
            check_gone(world, event, event.reason)
            if event.asked and not event.guest:
                check_order(world, event)
        case ChildStartFailed():
            check_gone(world, event, event.reason)
        case ChildIgnored():
            check_gone(world, event, Normal())
        case ChildStuck():
            world.claim(world.lives(event.path), f"{event}, but it has ended")
        case MessagesDropped():
            messages.messages_dropped(world, event)
        case MailboxOverflowed():
            messages.mailbox_overflowed(world, event)
        case PoisonMessage():
            messages.poison_message(world, event)
        case SupervisorDecided():
            world.count(f"decided: {event.decision.verdict}")
        case _:
            pass


def check_gone(world: World, event: ChildExited | ChildStartFailed | ChildIgnored, reason: ExitReason) -> None:
    world.claim(not world.lives(event.path), f"{event}, but it runs")
    check_reason(world, event, reason)
    if event.guest:
        world.guest_ends[event.path] = reason
    record = world.latest.get(event.path)
    if record is None or record.gone:
        return  # its factory has failed
    record.gone = True
    world.claim(not (record.helpers or record.tasks), f"{event}, but tasks of it run")
    if record.name is not None:
        holder = world.runtime.registry.get(record.name)
        world.claim(holder is not record.life.ref, f"{event}, but it holds {record.name!r}")
    ties.tell_exit(world, record, reason)
    calls.check_kept_calls(world, record)


def check_reason(world: World, event: object, reason: ExitReason) -> None:
    world.count(f"reason: {type(reason).__name__}")
    if not isinstance(reason, Crashed):
        return
    error = reason.exception
    if not isinstance(error, ALLOWED):
        world.claim(False, f"{event}: {''.join(traceback.format_exception(error))}")
    elif isinstance(error, NameTaken):
        world.count("name taken")
        world.claim(world.lives(error.holder), f"{error}, but that has ended")
    elif isinstance(error, InitTimeout):
        world.count("init timeout")


def check_order(world: World, event: ChildExited) -> None:
    """When a supervisor stops, nobody who started after this child is alive."""
    above, _, id_ = event.path.rpartition("/")
    core = world.cores.get(above)
    if core is None or core.spec.strategy == "simple_one_for_one":
        return
    ending = core.stopped.get((id_, event.incarnation))
    world.claim(ending is not None, f"{event}, but nobody had asked for it")
    if ending:
        ids = [state.id for state in core.which()]
        after = [later for later in ids[ids.index(id_) + 1 :] if world.lives(f"{above}/{later}")]
        world.claim(not after, f"{event}, but {after} started after it and live")
