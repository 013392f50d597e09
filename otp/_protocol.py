"""What goes into the supervision core and what comes out of it: events and requests, actions and states.

The core (``SupervisorCore``) decides, the shell around it acts. The shell hands over what happened as an
event and carries out the actions that it gets back, in order. It promises:

- Every ``StartChild`` is answered by exactly one ``ChildUp``, ``ChildIgnored`` or ``ChildFailedToStart`` (or
  ``ChildDown``, if the shell cannot tell), and every ``ChildUp`` in the end by one ``ChildDown``.
- A ``StopChild`` is answered by the end of that child, whatever its reason: ``ChildDown``, or, when it was
  still coming up, any of the answers above (one that came up all the same is then reported down, too).
- A ``ScheduleRetry`` is answered by ``RetryDue`` with the same generation after the delay; also a delay of
  0 goes through the shell's queue, so that what is already waiting there is served first.
- After ``StartFailed``, ``GiveUp`` or ``Stopped`` no child is left, and the core does nothing any more.

All of it is values that nobody changes. The four that there are for each life are not `frozen` all the same: that would
treble the time to make one.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import define, field, frozen

from . import _checks as checks
from ._errors import OtpError
from ._exit import Crashed, ExitReason
from ._spec import ChildSpec, Supervisor, check_startable

# -- events ---------------------------------------------------------------------------------------------


@frozen
class Start:
    """Start the children of the spec, in order. Ends in ``Started`` or, rolled back, in ``StartFailed``."""


@define
class ChildUp:
    """The child has come up: its init is done."""

    id: str
    incarnation: int
    now: float


@frozen
class ChildIgnored:
    """The child's init asked to be left out (``Ignore``). That is a success; the child does not run."""

    id: str
    incarnation: int


@frozen
class ChildFailedToStart:
    """The child has ended before it came up."""

    id: str
    incarnation: int
    reason: ExitReason
    now: float


@define
class ChildDown:
    """The child has ended, by itself or because it was told to."""

    id: str
    incarnation: int
    reason: ExitReason
    now: float


@frozen
class RetryDue:
    """The delay of a ``ScheduleRetry`` is over. Ignored when that generation waits no more."""

    generation: int
    now: float


@frozen
class Stop:
    """Stop all children, in reverse start order, and end with ``Stopped(reason)``; possible at any time."""

    reason: ExitReason


# -- requests: events that are answered by exactly one Reply, told apart by identity --------------------


@frozen(eq=False)
class AddChild:
    """Add ``spec`` at the end of the start order and start it. A spec that fails to start is not kept.

    Refused with ``AlreadyStarted``, ``AlreadyPresent`` or, under ``simple_one_for_one``, ``WrongStrategy``, and with
    ``ValueError`` if it is significant and there is no ``auto_shutdown``; answered with ``FailedToStart`` when it does
    not come up.
    """

    spec: ChildSpec

    def __attrs_post_init__(self) -> None:
        checks.instance("spec", self.spec, ChildSpec, "what child() returns")
        check_startable(self.spec)


@frozen(eq=False)
class StartInstance:
    """Start an instance of the template, with ``args`` for its ``start`` (``simple_one_for_one`` only).

    Its id is that of the template with its key, ``worker:tenant-7``, or else with a number, ``worker:1``, that is
    never given twice; the reply tells it. Refused with ``WrongStrategy``, with ``AlreadyStarted`` or
    ``AlreadyPresent`` if there is one of that key, with ``MaxChildren`` or, when ``start`` does not take such
    arguments, ``TypeError``; ``FailedToStart`` as above.
    """

    args: tuple[object, ...] = ()
    key: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.key is not None:
            checks.text("key", self.key, without="/")
            if self.key.isdecimal():
                raise ValueError(f"key must not be a number, as instances without a key have one, not {self.key!r}")


@frozen(eq=False)
class TerminateChild:
    """Stop the child, if it runs, and keep it stopped; also one that is coming up or waits for its restart.

    The spec is kept unless the child is temporary or an instance. Refused with ``ChildNotFound``; ends of
    instances that are over already count as success, where there is no key to it.
    """

    id: str


@frozen(eq=False)
class RestartChild:
    """Start a child that is stopped or parked. It stays where it is in the start order; nothing is charged for it.

    A budget of its own begins anew. Refused with ``ChildNotFound``, ``ChildRunning``, ``ChildRestarting`` or, under
    ``simple_one_for_one`` unless it is parked, ``WrongStrategy``; answered with ``FailedToStart`` when it does not
    come up (it stays what it was).
    """

    id: str


@frozen(eq=False)
class DeleteChild:
    """Forget the spec of a child that is stopped or parked. Refused as ``RestartChild`` is."""

    id: str


@frozen(eq=False)
class Change:
    """Go on under ``spec``: OTP's live reconfiguration.

    What ``spec`` says of the supervisor itself holds from now on. A child whose id it knows gets the new fields and
    goes on living as it does; a child that is new in it is added, stopped; one that is not in it stays. The start
    order is that of ``spec``, and behind it those that it does not know. Under ``simple_one_for_one`` the template is
    replaced, also for the restarts of the instances there are. Refused, and then nothing is changed, with
    ``ValueError`` if the strategy would change to or from ``simple_one_for_one``, or the template's id, and with
    ``TypeError`` if the new template's ``start`` does not take the arguments of an instance.

    What is under way goes on: a start, a stop, the wait for a restart. Who was taken down for a restart comes back
    from it, whatever the new strategy and restart types say; these decide what happens from now on, also when
    a start that is under way fails.
    """

    spec: Supervisor

    def __attrs_post_init__(self) -> None:
        checks.instance("spec", self.spec, Supervisor, "a Supervisor")


Request: TypeAlias = AddChild | StartInstance | TerminateChild | RestartChild | DeleteChild | Change
Event: TypeAlias = Start | ChildUp | ChildIgnored | ChildFailedToStart | ChildDown | RetryDue | Stop | Request

# -- what can be read at any time -----------------------------------------------------------------------

Status: TypeAlias = Literal["running", "starting", "stopping", "restarting", "stopped", "parked"]
"""``starting`` also before its turn, ``restarting``: it failed and waits to be started again, ``parked``: it needed
more restarts than its budget allows."""


@frozen
class ChildState:
    """A child as it is just now. ``incarnation`` is None when none is alive.

    ``reason`` is what the last incarnation ended with; None if one is alive, or there never was one.
    """

    id: str
    status: Status
    incarnation: int | None
    reason: ExitReason | None
    spec: ChildSpec


@frozen
class ChildCount:
    """How many there are (OTP's ``count_children``)."""

    specs: int
    """Child specs; of all instances of a ``simple_one_for_one`` that is one, the template."""
    active: int
    """Children that are alive."""
    supervisors: int
    """Children whose ``start`` is a ``Supervisor``, alive or not; one that a function returns is a worker here."""
    workers: int
    """All the others, alive or not."""


Verdict: TypeAlias = Literal[
    "restart", "wait", "retry", "join", "leave", "forget", "park", "drop", "auto shutdown", "roll back", "give up"
]
"""What the core decided when a child ended:

- ``restart``: it is (and, where the strategy says so, its siblings are) started again now; charged.
- ``wait``: the same, but after ``delay`` seconds; charged when they are over.
- ``retry``: the wait is over, or a restart that failed is tried again; charged.
- ``join``: a restart that is already waiting takes care of it; not charged.
- ``leave``: it stays stopped, its spec is kept.
- ``forget``: it stays stopped, its spec is gone.
- ``park``: its restart would be one more than its budget allows; it stays down until it is asked for.
- ``drop``: the same, and its spec is gone.
- ``auto shutdown``: it was significant, and the supervisor ends with it.
- ``roll back``: it did not come up when the supervisor started, which therefore does not start.
- ``give up``: its restart would be one more than the limit.
"""


@frozen(kw_only=True)
class Decision:
    """One decision of the core, for the history and for events: when, about whom, why, what.

    ``used`` of ``limit`` restarts lie in the window of ``period`` seconds after it; that is the child's own where it
    has a budget. In the history a crash is remembered in writing, as a ``RecordedError``; in events it is the
    exception itself.
    """

    time: float
    """When, on trio's clock."""
    child: str
    """The id of the child that it is about."""
    incarnation: int | None
    """Which life of it has ended."""
    reason: ExitReason
    """What that ended with."""
    verdict: Verdict
    """What was decided."""
    delay: float = 0.0
    """For how many seconds the restart waits, if it does."""
    used: int
    limit: int
    period: float


# -- actions --------------------------------------------------------------------------------------------


@define
class StartChild:
    """Start the child. At most one start is under way at any time."""

    id: str
    incarnation: int
    spec: ChildSpec


@define
class StopChild:
    """Stop the child as its spec says, also when it is still coming up.

    At most one stop is under way at any time, except those that a ``TerminateChild`` has asked for, and under
    ``simple_one_for_one``, whose instances are stopped all at once.
    """

    id: str
    incarnation: int
    spec: ChildSpec


@frozen
class RenewSpec:
    """The child that is alive goes on under ``spec``, as far as that can be."""

    id: str
    incarnation: int
    spec: ChildSpec


@frozen
class ScheduleRetry:
    """Report ``RetryDue(generation)`` after ``delay`` seconds. Never taken back: a stale one is ignored."""

    generation: int
    delay: float


Refusal: TypeAlias = OtpError | TypeError | ValueError


@frozen
class Reply:
    """The answer to a request: ``error``, or success; ``child`` is what was added or restarted."""

    request: Request
    child: ChildState | None = None
    error: Refusal | None = None


@frozen
class Started:
    """All children of the spec are up (or asked to be left out). The supervisor has started."""


@frozen
class StartFailed:
    """A child did not come up, and those before it have been stopped again. The last action of the core."""

    reason: Crashed = field()  # with a FailedToStart


@frozen
class GiveUp:
    """The limit of restarts was exceeded, and all children have been stopped. The last action of the core."""

    reason: Crashed = field()  # with a GaveUp


@frozen
class Stopped:
    """All children have been stopped, as asked or by an auto shutdown. The last action of the core."""

    reason: ExitReason


@frozen
class Note:
    """For events and logs; nothing needs to be done."""

    decision: Decision


Action: TypeAlias = (
    StartChild | StopChild | RenewSpec | ScheduleRetry | Reply | Started | StartFailed | GiveUp | Stopped | Note
)
