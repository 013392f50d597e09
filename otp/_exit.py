"""Why a child ended: exit reasons as values, and the exceptions that stand for one."""

from __future__ import annotations

from traceback import TracebackException
from typing import Final, TypeAlias

from attrs import field, frozen

LINE: Final = 300
"""How many characters of an exception's text are shown in a line."""
FRAMES: Final = 50
"""How many frames of an exception, and of each of its causes, are remembered."""


@frozen
class Normal:
    """The child had nothing left to do and returned."""

    def __str__(self) -> str:
        return "normal"


@frozen
class Shutdown:
    """The child was asked to end or chose to, without fault; ``reason`` says why if there is more to say."""

    reason: object = None

    def __str__(self) -> str:
        return "shutdown" if self.reason is None else f"shutdown ({one_line(self.reason)})"


@frozen
class Killed:
    """The child did not end within its shutdown time and was cancelled, or its shutdown was ``"brutal"``.

    In one process nothing can be killed by force, as OTP's ``kill`` does. The word means: asked, cancelled, and ended
    only then. A child that does not end even so is stuck: see ``ChildStuck``.
    """

    def __str__(self) -> str:
        return "killed"


KILLED: Final = Killed()
"""One for all who begin with this: each child that runs holds what it would end with if it were cut short."""


@frozen
class Crashed:
    """The child ended by an exception, which is kept with its traceback and its chain of causes.

    ``exception`` is a ``RecordedError`` in its place where a crash is remembered for long.
    """

    exception: BaseException = field(eq=id)

    def __str__(self) -> str:
        return f"crashed ({describe(self.exception)})"


ExitReason: TypeAlias = Normal | Shutdown | Killed | Crashed
"""How a child ended. OTP has the same four as terms: ``normal``, ``shutdown`` or ``{shutdown, Reason}``, ``killed``,
and anything else."""


def is_normal_class(reason: ExitReason) -> bool:
    """Whether a transient child that ended so is left alone: ``Normal`` and any ``Shutdown`` are no fault."""
    return isinstance(reason, Normal | Shutdown)


def describe(exception: BaseException) -> str:
    """One line for an exception, as logs and exit reasons show it: its kind and the beginning of its text."""
    kind = exception.kind if isinstance(exception, RecordedError) else type(exception)
    text = one_line(exception)
    return f"{kind.__name__}: {text}" if text else kind.__name__


def one_line(value: object) -> str:
    """The first line of what ``str`` makes of ``value``, and not more of it than reads well.

    Where that raises, which is the value's own fault, it says so: whoever tells of a failure must not fail.
    """
    try:
        text = str(value)
    except Exception:  # noqa: BLE001
        return f"{type(value).__name__} that cannot be shown"
    first = next(iter(text.splitlines()), "")[:LINE]
    return first if len(first) == len(text) else f"{first} ..."


class RecordedError(Exception):
    """What is remembered of an exception, in writing: its kind, its text and its traceback.

    It takes the place of the exception where a crash is remembered for long, as in the history of a supervisor. An
    exception itself has hold of every frame that it came through, and so of the crashed actor and all that was its.

    Attributes:
        kind: The class of the exception.
    """

    def __init__(self, exception: BaseException) -> None:
        self.kind = type(exception)
        # Of a recursion that went too deep, the innermost frames are enough. The lines are looked up when asked for.
        self._written = TracebackException.from_exception(exception, limit=-FRAMES, lookup_lines=False)
        super().__init__(str(self._written))

    def __repr__(self) -> str:
        return f"<RecordedError {describe(self)}>"

    @property
    def traceback(self) -> str:
        """The traceback with the chain of causes, as the interpreter would have printed it."""
        return "".join(self._written.format())


def in_writing(reason: ExitReason) -> ExitReason:
    """The same reason without its exception: a crash has a :exc:`RecordedError` in the place of it."""
    if isinstance(reason, Crashed) and not isinstance(reason.exception, RecordedError):
        return Crashed(RecordedError(reason.exception))
    return reason


class Stop(Exception):
    """Raised by a child to end without fault: ``Stop()`` is ``Normal``, ``Stop(x)`` is ``Shutdown(x)``.

    In an actor it ends the handler, too; :meth:`Actor.stop` lets the handler go on to its end. Raised before the child
    is up it is a failed start, as every other end is; a child that is not needed raises :exc:`Ignore`.

    Attributes:
        reason: Why, if there is more to say; None for `Normal`.
    """

    def __init__(self, reason: object = None) -> None:
        super().__init__(*(() if reason is None else (reason,)))
        self.reason = reason

    def exit_reason(self) -> ExitReason:
        """The exit reason this stands for."""
        return Normal() if self.reason is None else Shutdown(self.reason)


class Ignore(Exception):
    """Raised by a child during its init to say: do not run me, and take that for success (OTP's ``ignore``).

    The supervisor keeps the spec, stopped, unless the child is temporary or an instance of
    ``simple_one_for_one``. Raised later, by a child that is up, it is a crash like any other.
    """
