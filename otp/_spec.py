"""What to supervise, and how: frozen values, checked when they are made."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from attrs import evolve, field, frozen

from . import _checks as checks

if TYPE_CHECKING:
    from random import Random

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
ShutdownTime: TypeAlias = float | Literal["brutal", "infinity"]


@frozen(kw_only=True)
class Backoff:
    """How long a child waits before it is restarted. Without one it is restarted at once, as in OTP.

    The n-th restart in a row waits ``initial * factor ** (n - 1)`` seconds, at most ``cap``; of that, a
    random part of up to the fraction ``jitter`` is taken off, so that what failed together does not come
    back together. A child that was up for ``reset_after`` seconds starts over with ``initial``.
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
class ChildSpec:
    """One child of a supervisor. Made by ``child()``, which fills in the defaults."""

    id: str
    start: Start
    name: str | None
    restart: Restart
    shutdown: ShutdownTime
    init_timeout: float
    backoff: Backoff | None
    mailbox: int

    def __attrs_post_init__(self) -> None:
        _check_start(self.start)
        checks.text("id", self.id, without="/")
        if self.name is not None:
            checks.text("name", self.name)
        checks.choice("restart", self.restart, get_args(Restart))
        if self.shutdown not in ("brutal", "infinity"):
            checks.seconds("shutdown", self.shutdown, otherwise=', "brutal" or "infinity"')
        if self.init_timeout != math.inf:
            checks.positive_seconds("init_timeout", self.init_timeout, otherwise=" or math.inf")
        checks.instance("backoff", self.backoff, Backoff | None, "a Backoff or None")
        checks.whole("mailbox", self.mailbox, least=1)

    @property
    def is_supervisor(self) -> bool:
        """Whether the child is itself a supervisor."""
        return isinstance(self.start, Supervisor)


def child(
    start: Start,
    *,
    id: str | None = None,  # noqa: A002  (OTP's word, and the one that users look for)
    name: str | None = None,
    restart: Restart = "permanent",
    shutdown: ShutdownTime | None = None,
    init_timeout: float | None = None,
    backoff: Backoff | None = None,
    mailbox: int = 10_000,
) -> ChildSpec:
    """Say how to run one child.

    ``start`` is called without arguments for each incarnation (a template of ``simple_one_for_one`` is
    called with the arguments of the instance), or it is a ``Supervisor``. What it returns decides what the
    child is: a coroutine is a plain task, a ``Behaviour`` an actor or the like, an async context manager is
    entered to start and left to stop, a ``Supervisor`` is a subtree.

    - ``id``: unique in its supervisor, part of the child's path. Default: the name of the function or
      class; a lambda, a ``partial`` and a ``Supervisor`` have none and need one.
    - ``name``: the name it is registered under in the whole tree, if any.
    - ``restart``: ``"permanent"`` is always restarted; ``"transient"`` only after a fault, that is neither
      ``Normal`` nor ``Shutdown``; ``"temporary"`` never, its spec is forgotten when it ends.
    - ``shutdown``: how many seconds it gets to end when it is stopped; ``"brutal"`` is none at all,
      ``"infinity"`` as many as it likes. Default: 5 seconds, and ``"infinity"`` for a supervisor, whose
      children have their own times.
    - ``init_timeout``: how many seconds it may take to come up; ``math.inf`` for no limit. Default: 30
      seconds, and no limit for a supervisor, whose children have their own.
    - ``backoff``: how its restarts wait. Default: the supervisor's.
    - ``mailbox``: how many unread messages an actor's box holds.

    Raises ``ValueError`` or ``TypeError`` that names the argument, the value and what is allowed.
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
        shutdown=shutdown,
        init_timeout=init_timeout,
        backoff=backoff,
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


def _children(children: Iterable[ChildSpec]) -> tuple[ChildSpec, ...]:
    known: set[str] = set()
    for spec in (specs := tuple(children)):
        checks.instance("each of children", spec, ChildSpec, "what child() returns")
        if spec.id in known:
            raise ValueError(f"children must have different ids, but {spec.id!r} is there twice")
        known.add(spec.id)
    return specs


@frozen
class Supervisor:
    """A supervisor as a value: its children, in start order, and what to do when one of them ends.

    - ``children``: started one after another in this order and stopped in reverse. May be empty.
      ``simple_one_for_one`` takes exactly one, the template of the instances that are started by request.
    - ``strategy``: who is restarted when a child needs it. ``"one_for_one"``: that child.
      ``"one_for_all"``: all. ``"rest_for_one"``: that child and those after it. ``"simple_one_for_one"``:
      that instance.
    - ``intensity``, ``period``: when more than ``intensity`` restarts fall into ``period`` seconds, the
      supervisor gives up: it stops its children and crashes with ``GaveUp``. All children share the count,
      the restart of a group counts once, a restart that fails is tried again and counts again. 0 tolerates
      no restart. The default, 3 in 5 seconds, is Elixir's (OTP: 1 in 5).
    - ``backoff``: the default for children that have none of their own.
    """

    children: tuple[ChildSpec, ...] = field(converter=_children)
    strategy: Strategy = field(default="one_for_one", kw_only=True)
    intensity: int = field(default=3, kw_only=True)
    period: float = field(default=5.0, kw_only=True)
    backoff: Backoff | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        checks.choice("strategy", self.strategy, get_args(Strategy))
        checks.whole("intensity", self.intensity, least=0)
        checks.positive_seconds("period", self.period)
        checks.instance("backoff", self.backoff, Backoff | None, "a Backoff or None")
        if self.strategy == "simple_one_for_one":
            if len(self.children) != 1:
                given = len(self.children)
                raise ValueError(f"simple_one_for_one needs exactly one child, the template, not {given}")
            if (name := self.children[0].name) is not None:
                raise ValueError(f"name must be None in a template: its instances cannot all be {name!r}")
        else:
            for spec in self.children:
                check_startable(spec)


Start: TypeAlias = Supervisor | Callable[..., object]  # what `child()` takes


def check_startable(spec: ChildSpec, args: tuple[object, ...] = ()) -> None:
    """Raise ``TypeError`` when ``spec.start`` cannot be called with ``args``, as far as one can see."""
    if isinstance(spec.start, Supervisor):
        if args:
            raise TypeError(f"child {spec.id!r}: a Supervisor takes no arguments, not {args!r}")
        return
    try:
        signature = inspect.signature(spec.start)
    except (TypeError, ValueError):  # some builtins have no signature to check
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        given = f"with {args!r}" if args else "without arguments"
        raise TypeError(f"child {spec.id!r}: start cannot be called {given}: {error}") from None


def instance_of(template: ChildSpec, number: int, args: tuple[object, ...]) -> ChildSpec:
    """The spec of an instance, ``worker:1``, whose start calls the template's with ``args``."""
    check_startable(template, args)
    start = partial(template.start, *args) if args and callable(template.start) else template.start
    return evolve(template, id=f"{template.id}:{number}", start=start)
