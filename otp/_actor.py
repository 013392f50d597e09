"""The actor: state that one message at a time may touch."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import trio
from trio.lowlevel import current_task

from . import _checks as checks
from ._aliases import Alias, ReplyAlias
from ._call import Turn
from ._child import Behaviour, ChildContext, life_of
from ._deferred import ReplyTo
from ._entries import Continue, Entry, Halt
from ._errors import NotAlive
from ._exit import KILLED, Crashed, ExitReason, Normal, Shutdown
from ._groups import Group, Ties
from ._helpers import Helpers
from ._idle import Idle
from ._inspect import OWN
from ._links import Links
from ._mailbox import insert_next
from ._monitoring import Monitoring
from ._names import life_behind
from ._overflow import overflow_policy
from ._receiver import ending_of, receive
from ._timers import Timer, Timers
from ._unread import close_mailbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from ._life import Life
    from ._monitors import Monitor
    from ._ref import Ref

WIND_DOWN: Final = 0.75
"""Which part of its shutdown time an actor may spend on the messages it still has. The rest is for `terminate`."""

T = TypeVar("T")

_logger = logging.getLogger("otp")


class Actor(Behaviour):
    """A child with a mailbox: it handles one message or call at a time, so its state needs no lock. OTP's gen_server.

    Override what you need::

        class Counter(Actor):
            async def init(self) -> None:
                self.total = 0

            async def handle_message(self, message: object) -> None:
                self.total += 1

            async def handle_call(self, request: object) -> int:
                return self.total

    An exception in any of these is a crash: the actor ends, its callers are told, and its supervisor decides. State
    belongs into `init`, or into `__init__` of what the factory makes; either way each incarnation begins anew.

    When the supervisor asks the actor to stop, it accepts nothing more from others and still handles what it has, in
    three quarters of its `shutdown` time; then a handler that is still running is cancelled and the exit counts as
    :class:`Killed`. Either way `terminate` runs in the time that is left. What it sends itself after it was asked
    to stop is not handled any more (but what it continues with is): the next incarnation goes on from what was stored.
    """

    _life: Life

    @property
    def context(self) -> ChildContext:
        """The actor's place in the tree; from `init` on."""
        return ChildContext(self._life)

    @property
    def me(self) -> Ref:
        """The actor's own ref, to be given to others; from `init` on."""
        return self._life.ref

    @property
    def nursery(self) -> Helpers:
        """Where the actor can run helper tasks beside its handlers; from `init` on.

        They are cancelled when the actor ends, before `terminate`. If one of them fails, so does the actor; but if it
        is only told by its own actor that this ends (:exc:`NotAlive`, by :meth:`in_turn` say), just the helper ends.
        """
        life = self._life
        if life.helpers is None:
            life.helpers = Helpers(life.parent.nursery, life.spec.id, life.box, life.fail)
        return life.helpers

    # -- what an actor overrides --------------------------------------------------------------------------

    async def init(self) -> None:
        """Prepare, before the first message. The supervisor starts the next child when this is done.

        An exception here is a failed start (and `terminate` does not run), and so is :exc:`InitTimeout`: it is
        cancelled when `init_timeout` is over, or when the supervisor is to stop. Raise :exc:`Ignore` if the actor is
        not needed. To resume work that was interrupted, load it and `send_self` the message that goes on with it: what
        is sent here to itself is handled before everything that others have sent meanwhile.
        """

    async def handle_message(self, message: Any) -> None:
        """Handle one message that somebody sent. By default it is dropped with a warning.

        It is for all that is not a call: gen_server's ``handle_cast`` and ``handle_info``.
        """
        _logger.warning("%s got a message that it does not handle: %r", self._life.path, message)

    async def handle_call(self, request: Any) -> Any:
        """Handle one call; what this returns is the answer. By default calls crash the actor.

        To answer later, or to have somebody else answer, keep :meth:`reply_to` and return :data:`DEFERRED`.

        An exception crashes the actor, and the caller gets :exc:`NotAlive` with it as the cause. An error that the
        caller should deal with is a value to return, or is raised there by :meth:`ReplyTo.reply_error`.
        """
        raise NotImplementedError(f"{type(self).__qualname__} does not handle calls: it got {request!r}")

    async def terminate(self, reason: ExitReason) -> None:
        """Clean up. Runs for every `reason`, also after a crash or a cancelled handler, if `init` had been done.

        It is shielded from cancellation for what is left of the `shutdown` time, at least a quarter of it when the
        actor was asked to stop, then it is cut short. With ``shutdown="brutal"`` it runs up to its first wait. (In OTP
        it does not run when the supervisor stops a process that does not trap exits.)
        """

    async def handle_continue(self, what: Any) -> None:
        """Go on with what :meth:`continue_with` was called with. By default that crashes the actor."""
        raise NotImplementedError(f"{type(self).__qualname__} does not handle what it continues with: {what!r}")

    async def handle_idle(self) -> None:
        """Nothing came for as long as :meth:`idle_after` said. By default that crashes the actor."""
        raise NotImplementedError(f"{type(self).__qualname__} does not handle its idle timeout")

    def describe_state(self) -> object:
        """What inspection and crash reports show of the state (OTP's ``format_status``): by default all attributes.

        Override it to leave out what is secret, or large. If it fails, a note is shown instead.
        """
        return {name: value for name, value in vars(self).items() if name != OWN}

    def describe_message(self, message: Any) -> object:
        """What crash reports show of the message or request being handled: by default that itself."""
        return message

    # -- what an actor can do -----------------------------------------------------------------------------

    def send_self(self, message: object) -> None:
        """Send a message to itself.

        In `init` it goes to the front of the mailbox, in the order sent; later to the back.

        Raises:
            MailboxFull: if there is no room; in `init` the limit does not apply.
            NotAlive: in `terminate`, after which nothing is handled.
        """
        life = self._life
        if life.up:
            life.box.put_self(message)
        elif life.early is None:
            life.early = [message]
        else:
            life.early.append(message)

    async def in_turn(self, fn: Callable[[], Awaitable[T]]) -> T:
        """For a helper task: run `fn` between two messages, as if it were a handler, and return what it returns.

        So a helper can wait beside the handlers, for something outside of the actor, and touch its state when it came
        without a lock. What it raises is the actor's crash. If this is cancelled before the turn has come `fn` is not
        run; a turn that has begun goes on.

        Raises:
            MailboxFull: if there is no room for waiting in line.
            NotAlive: if the actor was asked to stop, or ends before the turn is over.
            CallingSelf: if it is asked for in a handler, which has its turn.
        """
        return cast("T", await self.me.call(Turn(lambda _: fn()), timeout=math.inf))

    def continue_with(self, what: object) -> None:
        """Have `handle_continue` called with `what`, before the next message (gen_server's ``continue``).

        It splits one step in two: answer or come up first, then do the rest, with nothing in between. From `init` it
        comes before everything, also what `init` sent itself. Several are done in the order in which they were asked
        for, and a continuation may ask for the next. :meth:`stop` and an error go before it.
        """
        _put_next(self._life, Continue(what))

    def idle_after(self, seconds: float) -> None:
        """Have `handle_idle` called when no message or call comes for `seconds` after this handler is done.

        Any message or call cancels it, and so does one that is waiting already; each handler that wants it asks anew. A
        tool's question (:meth:`Ref.inspect`) does not, nor does a continuation, nor what comes to nothing: a call whose
        caller has gone, a timer that is cancelled. With 0 it comes at once if nothing is waiting, before all that comes
        later. This is gen_server's timeout.

        Raises:
            ValueError: if `seconds` is not a finite number >= 0.
        """
        checks.seconds("seconds", seconds)
        _put_next(self._life, Idle(seconds, self._life.box))

    def after(self, seconds: float, message: object) -> Timer:
        """Send a message to itself in `seconds` (a finite number >= 0). What comes back can cancel it.

        The limit of the mailbox does not apply to timers. They end with this incarnation: the next gets none of them.
        (OTP: ``erlang:send_after``, of which a message may come after it was cancelled; here none does.)

        Raises:
            ValueError: if `seconds` is not such a number.
            NotAlive: if this actor has ended; so for all timers.
        """
        return self._life.part(Timers).after(seconds, message)

    def every(self, seconds: float, message: object) -> Timer:
        """Send a message to itself every `seconds` (a finite number > 0), for the first time after so many.

        The beat does not drift. When the actor is slower than that, beats are left out: there is never more than one
        message of it in the mailbox.

        Raises:
            ValueError: if `seconds` is not such a number.
        """
        return self._life.part(Timers).every(seconds, message)

    def at(self, when: float | datetime, message: object) -> Timer:
        """Send a message to itself at a time; at once if that is past.

        Args:
            when: a time on trio's clock, or a datetime with a time zone. That is converted now: if the wall clock is
                set meanwhile, the timer does not follow.
            message: anything.

        Raises:
            ValueError: if `when` is neither, or has no time zone.
        """
        return self._life.part(Timers).at(when, message)

    def monitor(self, target: Ref | str) -> Monitor:
        """Get a :class:`Down` message when `target` ends, a ref or whoever holds a name now; at once if nobody does.

        Any child can be watched, not only actors. Each monitor brings one message, behind what `target` sent before, as
        in OTP. The limit of the mailbox does not apply to it. :meth:`demonitor` ends it.
        """
        return self._life.part(Monitoring).on(life_behind(target), target)

    def monitor_group(self, group: Group) -> Monitor:
        """Get a :class:`Joined` or :class:`Left` message for each child that joins or leaves `group` from now on.

        Together with ``group.members()`` right after it, that is all that is to be known: nothing falls in between.
        (OTP: ``pg:monitor``.) :meth:`demonitor` ends it.

        Raises:
            NotAlive: if this actor has ended.
        """
        return self._life.part(Monitoring).on_group(group.name)

    def demonitor(self, monitor: Monitor) -> None:
        """End a monitor. No message of it comes any more, not even one that lies in the mailbox already.

        That is OTP's ``demonitor`` with ``flush``; without, one would have to expect a message from what was ended.
        """
        self._life.part(Monitoring).off(monitor)

    def link(self, target: Ref | str, *, one_way: bool = False) -> None:
        """End when `target` ends other than normally, and the other way round; :meth:`trap_exits` is the alternative.

        What runs is cancelled, `terminate` follows, and the reason is that of `target`; a crash comes as
        :exc:`LinkedExit`, with the first exception as its cause. There is one link at most between two, and a link to
        itself is none. It works on any child but a supervisor, which no link ends. Who was asked to stop by its
        supervisor takes no notice of links any more.

        Args:
            target: a ref, or whoever holds a name now.
            one_way: this actor ends with `target`, but `target` not with it (Ergo's links).

        Raises:
            NotAlive: if `target` is not there; for who traps exits that is an :class:`Exited`, too, if it ever was.
        """
        other = life_behind(target)
        if other is None:
            raise NotAlive(str(target))
        self._life.part(Links).link(other, one_way=one_way)

    def unlink(self, target: Ref) -> None:
        """End the link with `target`, in both directions. No :class:`Exited` of it comes any more."""
        other = life_behind(target)
        if other is not None:
            self._life.part(Links).unlink(other)

    def link_group(self, group: Group, *, one_way: bool = False) -> None:
        """Link with every member of `group`: those there are, and those that join later until they leave again.

        It is as :meth:`link` is with each of them. When a member ends other than normally, so does this actor, and
        (unless the link is one-way) then the other members with it; who traps exits gets an :class:`Exited` that names
        the group. That a member leaves, without ending, means nothing. If this actor is a member itself, it is linked
        with the others. Links with single members are links of their own.

        Args:
            group: also one that has no members yet.
            one_way: this actor ends with a member, but the members not with it. Asked for both ways, it is that.

        Raises:
            NotAlive: if this actor has ended.
        """
        self._life.part(Ties).link(group, one_way=one_way)

    def unlink_group(self, group: Group) -> None:
        """End the link with the members of `group`, in both directions. No :class:`Exited` of it comes any more.

        A member that has linked with the group in its turn is still linked with this actor if that is a member, too.
        """
        self._life.part(Ties).unlink(group)

    def alias(self) -> Alias:
        """Another address of this actor, to be handed out and, one day, revoked."""
        return Alias(self._life)

    def reply_alias(self) -> ReplyAlias:
        """An address for one answer; it comes as a :class:`Replied` message that names the alias."""
        return ReplyAlias(self._life)

    def trap_exits(self, on: bool = True) -> None:  # noqa: FBT001, FBT002  (reads as what it says)
        """Get the exits of those that it is linked to as messages, :class:`Exited`, instead of ending with them.

        What its own supervisor asks for cannot be trapped: that is not a link.
        """
        self._life.part(Links).trapping = on

    def reply_to(self) -> ReplyTo:
        """In `handle_call`: the right to answer this call later, or from elsewhere; then return :data:`DEFERRED`.

        Raises:
            RuntimeError: if no call is being handled.
        """
        running = self._life.box.running
        if running is None or type(running.message) is Turn:
            raise RuntimeError(f"{self._life.path} is not handling a call, so there is nobody to reply to")
        return ReplyTo(running, self._life)

    def stop(self, reason: ExitReason | None = None) -> None:
        """End after the current handler, with `reason` (default: :class:`Normal`).

        What is unread is dropped, and callers are told, unless it is kept for a next incarnation: see :class:`Mailbox`.
        In `init`: end as soon as that is done. A :class:`Crashed` reason crashes the actor with that exception.
        """
        life = self._life
        reason = Normal() if reason is None else reason
        if life.up:
            life.box.halt(reason)
        else:
            life.early = [Halt(reason)]

    # -- the life of an actor -----------------------------------------------------------------------------

    async def serve(self, context: ChildContext) -> None:
        """Init, handle messages, terminate. Called by the supervisor; what to override instead is listed above."""
        life = self._life = life_of(context)
        del context  # or it would be kept for as long as the actor lives, and there are many
        life.box.open(life.spec.mailbox.limit, overflow_policy(life))
        life.box.owner = current_task()
        ending: ExitReason = KILLED
        # One function, however long: an idle actor is the frames that it waits in, and there are many of them.
        try:
            await self._prepare()
            if life.early is not None:
                life.box.put_front(life.early)
                life.early = None
            life.started()
            try:
                ending = await receive(self, life)
            except BaseException as error:
                ending = ending_of(life, error)
                raise
            finally:
                life.answer_by = math.inf  # the caller of a call that was cut short knows
                close_mailbox(life, ending)  # first of all: callers learn at once, not after the cleanup
                life.begin_to_end()
                if life.helpers is not None or getattr(self.terminate, "__func__", None) is not Actor.terminate:
                    with self.context.cleanup():  # (for nothing it would be a fifth of the time an idle actor stops in)
                        try:
                            if life.helpers is not None:
                                await life.helpers.cancel()
                        finally:  # also when there is no time left, not even for the helpers
                            await self.terminate(ending)
        finally:
            if life.helpers is not None:
                # Whoever hears that the actor has ended may rely on it: nothing of it runs any more.
                life.box.end_turns()  # or a helper of a failed init that waits for one under a shield would go on
                with trio.CancelScope(shield=True):
                    await life.helpers.cancel()
        if isinstance(ending, Crashed):
            raise ending.exception
        life.exit_reason = ending

    def _prepare(self) -> Awaitable[None]:
        """What a behaviour built on actors has to do around the user's `init`; that alone by default."""
        return self.init()

    def _wind_down(self, life: Life) -> None:
        """The supervisor asks to stop: handle what is there, in time."""
        if life.box.parked is None:  # otherwise it has nothing to do that might take too long, and a deadline costs
            _limit_winding_down(life)
        life.box.stop_intake(Shutdown())


def _limit_winding_down(life: Life) -> None:
    now = trio.current_time()
    life.scope.deadline = now + (life.stop_deadline - now) * WIND_DOWN


def _put_next(life: Life, entry: Entry) -> None:
    """Have an actor do something before its next message."""
    if life.up:
        life.box.put_next(entry)
        if life.stop_asked and life.scope.deadline == math.inf:  # a helper's doing: it was idle when it was asked
            _limit_winding_down(life)
    else:
        if life.early is None:
            life.early = []
        insert_next(life.early, entry)
