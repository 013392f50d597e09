"""What to supervise, and how: frozen values, checked when they are made."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args
from weakref import WeakKeyDictionary

from attrs import evolve, field, frozen

from . import _checks as checks
from ._mailbox_spec import DEFAULT_MAILBOX, Mailbox, as_mailbox

if TYPE_CHECKING:
    from random import Random

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
"""After which ends a child is started again; see ``child()``."""
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
"""Who is started again with it; see ``Supervisor``."""
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
"""Whether the end of children is the end of their supervisor; see ``Supervisor``."""
OnExceed: TypeAlias = Literal["escalate", "park", "drop"]
"""What becomes of a child that needs more restarts than its budget allows; see ``RestartBudget``."""
ShutdownTime: TypeAlias = float | Literal["brutal", "infinity"]
"""How many seconds a child gets to end when it is stopped; see ``child()``."""


@frozen(kw_only=True)
class Backoff:
    """How long a child waits before it is restarted. Without one it is restarted at once, as in OTP.

    The n-th restart in a row waits ``initial * factor ** (n - 1)`` seconds, at most ``cap``; of that, a
    random part of up to the fraction ``jitter`` is taken off, so that what failed together does not come
    back together.

    Args:
        initial: Seconds before the first restart, >= 0.
        factor: By how much each wait is longer than the one before, >= 1.
        cap: Seconds that no wait exceeds, >= ``initial``.
        jitter: From 0 to 1.
        reset_after: A child that was up for so many seconds starts over with ``initial``.

    Raises:
        ValueError: that names the argument, the value and what is allowed.
    """

    initial: float = 0.1
    factor: float = 2.0
    cap: float = 30.0
    jitter: float = 0.1
    reset_after: float = 60.0

    def __attrs_post_init__(self) -> None:
        for argument in ("initial", "cap", "reset_after"):
            checks.seconds(argument, getattr(self, argument))
        if self.cap < self.initial:
            raise ValueError(f"cap must not be less than initial ({self.initial:g}), not {self.cap!r}")
        checks.number("factor", self.factor, least=1.0)
        checks.number("jitter", self.jitter, least=0.0, most=1.0)

    def delay(self, failures: int, rng: Random) -> float:
        """Seconds to wait after that many failures in a row (1 or more), jitter taken off."""
        try:
            full = min(self.cap, self.initial * self.factor ** (failures - 1))
        except OverflowError:
            full = self.cap
        return full * (1.0 - self.jitter * rng.random())


@frozen(kw_only=True)
class RestartBudget:
    """How many restarts one child may have on its own account, and what becomes of it when it needs more.

    A child with a budget uses up nothing of its supervisor's ``intensity``: its failures concern itself alone, which
    is what a budget is for.

    A parked child does not make the service not ready: the others go on without it. Its path is in
    ``runtime.readiness().parked``, and in what ``/readyz`` answers. Where the service can do nothing without the
    child, ``"escalate"`` is right.

    Park and drop concern the child alone. Whom the strategy restarts together with it is restarted without it, and
    starts knowing that it is not there.

    Each instance of a ``simple_one_for_one`` has a budget of its own, given by the template. (Ergo 3.3 has budgets
    for single children, too, but only under the strategies that restart children one by one.)

    Args:
        intensity: How many restarts it may have within ``period``; 0 tolerates none.
        period: In seconds, > 0.
        on_exceed: What happens when it needs one more. ``"escalate"``: the supervisor gives up, as it does when its own
            limit is exceeded. ``"park"``: the child stays down, visibly, with the status ``parked`` and its last exit
            reason. Nothing but ``restart_child`` brings it back, also no restart of its group; it then has its whole
            budget again. ``"drop"``: the child is forgotten.

    Raises:
        ValueError: that names the argument, the value and what is allowed.
    """

    intensity: int = 3
    period: float = 5.0
    on_exceed: OnExceed = "escalate"

    def __attrs_post_init__(self) -> None:
        checks.whole("intensity", self.intensity, least=0)
        checks.positive_seconds("period", self.period)
        checks.choice("on_exceed", self.on_exceed, get_args(OnExceed))


@frozen(kw_only=True)
class ChildSpec:
    """One child of a supervisor. Made by ``child()``, which fills in the defaults.

    The fields are its arguments, and it says what they mean: ``id``, ``start``, ``name``, ``restart``, ``significant``,
    ``shutdown``, ``init_timeout``, ``backoff``, ``budget``, ``mailbox`` (a ``Mailbox``, also if a number was given).
    """

    id: str
    start: Start
    name: str | None
    restart: Restart
    significant: bool
    shutdown: ShutdownTime
    init_timeout: float
    backoff: Backoff | None
    budget: RestartBudget | None
    mailbox: Mailbox = field(converter=as_mailbox)

    def __attrs_post_init__(self) -> None:
        _check_start(self.start)
        checks.text("id", self.id, without="/")
        if self.name is not None:
            checks.text("name", self.name)
        checks.choice("restart", self.restart, get_args(Restart))
        checks.instance("significant", self.significant, bool, "True or False")
        if self.significant and self.restart == "permanent":
            raise ValueError(
                f"significant must be False for child {self.id!r}, whose restart is 'permanent': "
                f"it never ends for good, so nothing could follow from that"
            )
        if self.shutdown not in ("brutal", "infinity"):
            checks.seconds("shutdown", self.shutdown, otherwise=', "brutal" or "infinity"')
        if self.init_timeout != math.inf:
            checks.positive_seconds("init_timeout", self.init_timeout, otherwise=" or math.inf")
        checks.instance("backoff", self.backoff, Backoff | None, "a Backoff or None")
        checks.instance("budget", self.budget, RestartBudget | None, "a RestartBudget or None")

    def make(self) -> object:
        """What the child is, made anew for each incarnation; a supervisor is the value that describes it.

        Raises:
            Exception: whatever `start` raises.
        """
        return self.start if isinstance(self.start, Supervisor) else self.start()

    @property
    def is_supervisor(self) -> bool:
        """Whether ``start`` is a ``Supervisor``; of one that a function returns the spec knows nothing."""
        return isinstance(self.start, Supervisor)


def child(
    start: Start,
    *,
    id: str | None = None,  # noqa: A002  (OTP's word, and the one that users look for)
    name: str | None = None,
    restart: Restart = "permanent",
    significant: bool = False,
    shutdown: ShutdownTime | None = None,
    init_timeout: float | None = None,
    backoff: Backoff | None = None,
    budget: RestartBudget | None = None,
    mailbox: int | Mailbox = DEFAULT_MAILBOX,
) -> ChildSpec:
    """Say how to run one child.

    ``start`` is called without arguments for each incarnation (a template of ``simple_one_for_one`` is
    called with the arguments of the instance), or it is a ``Supervisor``. What it returns decides what the
    child is: a coroutine is a plain task, a ``Behaviour`` an actor or the like, an async context manager is
    entered to start and left to stop, a ``Supervisor`` is a subtree. (One that a function returns is made anew for each
    incarnation. That it will be one cannot be seen before, so it has the defaults of any other child: say
    ``shutdown="infinity"`` and ``init_timeout=math.inf`` for it.)

    Args:
        start: What makes it, as above.
        id: Unique in its supervisor, part of the child's path. Default: the name of the function or class; a lambda, a
            ``partial`` and a ``Supervisor`` have none and need one.
        name: The name it is registered under in the whole tree, if any.
        restart: ``"permanent"`` is always restarted; ``"transient"`` only after a fault, that is neither ``Normal`` nor
            ``Shutdown``; ``"temporary"`` never, its spec is forgotten when it ends.
        significant: Whether its end may be the end of its supervisor, whose ``auto_shutdown`` says when. Not for
            permanent children, and only where there is an ``auto_shutdown``.
        shutdown: How many seconds it gets to end when it is stopped; ``"brutal"`` is none at all, ``"infinity"`` as
            many as it likes. Default: 5 seconds, and ``"infinity"`` for a supervisor, whose children have their own
            times. Where OTP kills, a task can only be cancelled: a child that goes on after that is reported as stuck,
            and waited for.
        init_timeout: How many seconds it may take to come up; ``math.inf`` for no limit. Default: 30 seconds, and no
            limit for a supervisor, whose children have their own. (OTP has no limit by default.)
        backoff: How its restarts wait. Default: the supervisor's.
        budget: How many restarts it may have on its own account. Default: none; it shares the supervisor's limit.
        mailbox: How many unread messages an actor's box holds, or a ``Mailbox``, which says more. Default: 10 000. (OTP
            has no limit.)

    Raises:
        ValueError: that names the argument, the value and what is allowed.
        TypeError: the same.
    """
    nested = isinstance(start, Supervisor)
    if shutdown is None:
        shutdown = "infinity" if nested else 5.0
    if init_timeout is None:
        init_timeout = math.inf if nested else 30.0
    return ChildSpec(
        id=_name_of(start) if id is None else id,
        start=start,
        name=name,
        restart=restart,
        significant=significant,
        shutdown=shutdown,
        init_timeout=init_timeout,
        backoff=backoff,
        budget=budget,
        mailbox=mailbox,
    )


def _check_start(start: object) -> None:
    if inspect.iscoroutine(start):
        start.close()  # it will never be awaited: say what is wrong, and only that
        called = start.__qualname__
        raise TypeError(f"start must be a function: pass {called}, not {called}()")
    if not isinstance(start, Supervisor) and not callable(start):
        raise TypeError(f"start must be callable or a Supervisor, not {start!r}; wrap an object in a lambda")


def _name_of(start: Start) -> str:
    _check_start(start)
    name = getattr(start, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise ValueError(f"id is needed: {start!r} has no name of its own to take it from")
    return name


def check_specs(children: Iterable[ChildSpec], *, auto_shutdown: AutoShutdown | None = None) -> None:
    """Raise what ``Supervisor(children, auto_shutdown=...)`` would raise for these children; do nothing else.

    By default what depends on ``auto_shutdown`` is not looked at (OTP: ``check_childspecs``).

    Raises:
        ValueError: that names what is wrong; OTP returns an error.
        TypeError: the same.
    """
    known: set[str] = set()
    for spec in children:
        checks.instance("each of children", spec, ChildSpec, "what child() returns")
        check_startable(spec)
        if spec.id in known:
            raise ValueError(f"children must have different ids, but {spec.id!r} is there twice")
        known.add(spec.id)
        if auto_shutdown is not None:
            check_significant(spec, auto_shutdown)


def check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Raise ``ValueError`` when ``spec`` is significant, and nothing could ever follow from that."""
    if spec.significant and auto_shutdown == "never":
        raise ValueError(
            f"significant must be False for child {spec.id!r}, since the auto_shutdown of its supervisor is 'never'"
        )


@frozen
class Supervisor:
    """A supervisor as a value: its children, in start order, and what to do when one of them ends.

    Where this is not OTP: bad and unknown options are errors, here and in ``child()``. Giving up is a crash in the eyes
    of the parent, so that a transient supervisor comes back from it. A group that waits for its restart, or for another
    try of one that failed, is down as a whole (OTP leaves up what had come up already).

    Args:
        children: Started one after another in this order and stopped in reverse. May be empty. ``simple_one_for_one``
            takes exactly one, the template of the instances that are started by request.
        strategy: Who is restarted when a child needs it. ``"one_for_one"``: that child. ``"one_for_all"``: all.
            ``"rest_for_one"``: that child and those after it. ``"simple_one_for_one"``: that instance.
        intensity: When more than so many restarts fall into one ``period``, the supervisor gives up: it stops its
            children and crashes with ``GaveUp``. All children share the count (except those with a ``budget``), the
            restart of a group counts once, a restart that fails is tried again and counts again. 0 tolerates no
            restart. The default, 3 in 5 seconds, is Elixir's (OTP: 1 in 5, and its seconds are whole ones).
        period: In seconds, > 0.
        backoff: The default for children that have none of their own.
        auto_shutdown: Whether the supervisor stops its children and ends, with ``Shutdown("auto shutdown")``, when
            ``"any_significant"`` child or ``"all_significant"`` children have ended for good by themselves: a transient
            child without fault, a temporary one in whatever way. A child that was terminated by request, or stopped
            with its group, has not ended by itself, and one that is parked has not ended for good. Default:
            ``"never"``. Not for ``simple_one_for_one``. A permanent supervisor is started again after that. This is
            OTP's EEP 56.
        max_children: How many instances a ``simple_one_for_one`` may have at a time, those included that are parked,
            wait for a restart or are being stopped. Default: no limit.

    Raises:
        ValueError: that names the argument, the value and what is allowed.
        TypeError: the same.
    """

    children: tuple[ChildSpec, ...] = field(converter=tuple[ChildSpec, ...])
    strategy: Strategy = field(default="one_for_one", kw_only=True)
    intensity: int = field(default=3, kw_only=True)
    period: float = field(default=5.0, kw_only=True)
    backoff: Backoff | None = field(default=None, kw_only=True)
    auto_shutdown: AutoShutdown = field(default="never", kw_only=True)
    max_children: int | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        checks.choice("strategy", self.strategy, get_args(Strategy))
        checks.whole("intensity", self.intensity, least=0)
        checks.positive_seconds("period", self.period)
        checks.instance("backoff", self.backoff, Backoff | None, "a Backoff or None")
        checks.choice("auto_shutdown", self.auto_shutdown, get_args(AutoShutdown))
        if self.max_children is not None:
            checks.whole("max_children", self.max_children, least=1)
        if self.strategy == "simple_one_for_one":
            self._check_template()
        else:
            check_specs(self.children, auto_shutdown=self.auto_shutdown)
            if self.max_children is not None:
                raise ValueError(f"max_children must be None under {self.strategy}, not {self.max_children!r}")

    def _check_template(self) -> None:
        if len(self.children) != 1:
            given = len(self.children)
            raise ValueError(f"simple_one_for_one needs exactly one child, the template, not {given}")
        (template,) = self.children
        checks.instance("each of children", template, ChildSpec, "what child() returns")
        if template.name is not None:
            raise ValueError(f"name must be None in a template: its instances cannot all be {template.name!r}")
        if self.auto_shutdown != "never":
            raise ValueError(f"auto_shutdown must be 'never' under simple_one_for_one, not {self.auto_shutdown!r}")
        check_significant(template, "never")


Start: TypeAlias = Supervisor | Callable[..., object]
"""How a child is made, for each incarnation anew; see ``child()``."""


def check_startable(spec: ChildSpec, args: tuple[object, ...] = ()) -> None:
    """Raise ``TypeError`` when ``spec.start`` cannot be called with ``args``, as far as one can see."""
    if isinstance(spec.start, Supervisor):
        if args:
            raise TypeError(f"child {spec.id!r}: a Supervisor takes no arguments, not {_shown(args)}")
        return
    try:
        signature = _signature(spec.start)
    except Exception:  # noqa: BLE001  (some builtins have none to check; and others may raise what they like)
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        given = f"with {_shown(args)}" if args else "without arguments"
        raise TypeError(f"child {spec.id!r}: start cannot be called {given}: {error}") from None


# Looked at for every instance of a template: that would be half of the time to start one. Weak, as whatever a start
# holds on to (a whole tree, perhaps) is not for us to keep.
_signatures: WeakKeyDictionary[Callable[..., object], inspect.Signature] = WeakKeyDictionary()


def _shown(args: tuple[object, ...]) -> str:
    try:
        return repr(args)
    except Exception as error:  # noqa: BLE001  (theirs; it must not become the supervisor's)
        return f"{len(args)} arguments that cannot be shown ({type(error).__name__})"


def _signature(start: Callable[..., object]) -> inspect.Signature:
    try:
        known = _signatures.get(start)
    except TypeError:  # it cannot be remembered
        return inspect.signature(start)
    if known is None:
        known = _signatures[start] = inspect.signature(start)
    return known


@frozen
class BoundStart:
    """The ``start`` of an instance: the template's, with the arguments that the instance was started with."""

    start: Callable[..., object]
    args: tuple[object, ...]

    def __call__(self) -> object:
        """Make one incarnation."""
        return self.start(*self.args)


def instance_of(template: ChildSpec, id_: str, args: tuple[object, ...]) -> ChildSpec:
    """The spec of an instance, whose start calls the template's with ``args``."""
    check_startable(template, args)
    start = BoundStart(template.start, args) if args and callable(template.start) else template.start
    return evolve(template, id=id_, start=start)


def arguments_of(instance: ChildSpec) -> tuple[object, ...]:
    """The arguments that an instance was started with."""
    return instance.start.args if isinstance(instance.start, BoundStart) else ()
