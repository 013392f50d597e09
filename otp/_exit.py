"""Why a child ended: exit reasons as values, and the exceptions that stand for one."""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from ._errors import OtpError


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


def is_normal_class(reason: ExitReason) -> bool:
    """Whether a transient child that ended so is left alone: ``Normal`` and any ``Shutdown`` are no fault."""
    return isinstance(reason, Normal | Shutdown)


def describe(exception: BaseException) -> str:
    """One short line for an exception, as logs and exit reasons show it: the first line of its text."""
    first, _, rest = str(exception).partition("\n")
    line = f"{type(exception).__name__}: {first}" if first else type(exception).__name__
    return f"{line} ..." if rest else line


class Stop(Exception):
    """Raised by a child to end without fault: ``Stop()`` is ``Normal``, ``Stop(x)`` is ``Shutdown(x)``."""

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


class FailedToStart(OtpError):
    """A child did not come up, so its supervisor did not either (or the request to start the child failed).

    ``supervisor`` is the path of the supervisor, ``child`` the id of the child and ``reason`` its exit
    reason. When the child is a supervisor, its own ``FailedToStart`` is inside; ``chain`` lists the ids on
    the way down. ``__cause__`` is the child's exception.
    """

    def __init__(self, supervisor: str, child: str, reason: ExitReason) -> None:
        super().__init__(supervisor, child, reason)
        self.supervisor = supervisor
        self.child = child
        self.reason = reason
        self.__cause__ = _exception_of(reason)

    @property
    def chain(self) -> tuple[str, ...]:
        """The ids from this child down to the one that failed by itself."""
        inner = _exception_of(self.reason)
        return (self.child, *inner.chain) if isinstance(inner, FailedToStart) else (self.child,)

    @property
    def root(self) -> ExitReason:
        """The exit reason of the child at the end of ``chain``."""
        inner = _exception_of(self.reason)
        return inner.root if isinstance(inner, FailedToStart) else self.reason

    def __str__(self) -> str:
        return f"{self.supervisor}: child {' > '.join(map(repr, self.chain))} failed to start: {self.root}"


class GaveUp(OtpError):
    """A supervisor ended because its children needed more restarts than it allows.

    ``supervisor`` is its path, ``child`` the id of the child whose restart was one too many, ``intensity``
    and ``period`` (seconds) the limit, and ``reason`` the last exit reason of that child. ``__cause__`` is
    the child's exception, if there is one.

    To its parent a supervisor that gave up has crashed. OTP ends with ``shutdown`` there, which leaves a
    transient supervisor down without a word; this is a deliberate deviation.
    """

    def __init__(self, supervisor: str, child: str, intensity: int, period: float, reason: ExitReason) -> None:
        super().__init__(supervisor, child, intensity, period, reason)
        self.supervisor = supervisor
        self.child = child
        self.intensity = intensity
        self.period = period
        self.reason = reason
        self.__cause__ = _exception_of(reason)

    def __str__(self) -> str:
        return (
            f"{self.supervisor} gave up: child {self.child!r} needed more than {self.intensity} restarts "
            f"in {self.period:g} s, last exit: {self.reason}"
        )


def _exception_of(reason: ExitReason) -> BaseException | None:
    return reason.exception if isinstance(reason, Crashed) else None
