"""Why a child ended: exit reasons as values, and the exceptions that stand for one."""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen


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
        return "shutdown" if self.reason is None else f"shutdown ({self.reason})"


@frozen
class Killed:
    """The child did not end within its shutdown time and was cancelled, or its shutdown was ``"brutal"``.

    In one process nothing can be killed by force. The word means: asked, cancelled, and ended only then.
    """

    def __str__(self) -> str:
        return "killed"


@frozen
class Crashed:
    """The child ended by an exception, which is kept with its traceback and its chain of causes."""

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
    """One short line for an exception, as logs and exit reasons show it: the first line of its text."""
    first, _, rest = str(exception).partition("\n")
    line = f"{type(exception).__name__}: {first}" if first else type(exception).__name__
    return f"{line} ..." if rest else line


class Stop(Exception):
    """Raised by a child to end without fault: ``Stop()`` is ``Normal``, ``Stop(x)`` is ``Shutdown(x)``.

    In an actor it ends the handler, too; :meth:`Actor.stop` lets the handler go on to its end.
    """

    def __init__(self, reason: object = None) -> None:
        super().__init__(*(() if reason is None else (reason,)))
        self.reason = reason

    def exit_reason(self) -> Normal | Shutdown:
        """The exit reason this stands for."""
        return Normal() if self.reason is None else Shutdown(self.reason)


class Ignore(Exception):
    """Raised by a child during its init to say: do not run me, and take that for success (OTP's ``ignore``).

    The supervisor keeps the spec, stopped, unless the child is temporary or an instance of
    ``simple_one_for_one``.
    """
