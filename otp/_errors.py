"""What can go wrong between actors, grouped by whose doing it is.

Errors of a message's *target* (:class:`NotAlive`, :class:`MailboxFull`, :class:`NoMailbox`), of the *caller*
(:class:`CallingSelf`, :class:`CallTimeout`), of who is *linked* to it (:class:`LinkedExit`), of a child that is being
*started* (:class:`NameTaken`, :class:`InitTimeout`, :class:`NeverStarted`, :class:`FailedToStart`) and of a
*supervisor* (:class:`GaveUp`). All carry what they speak of as attributes and survive pickling.
"""

from __future__ import annotations

from ._exit import Crashed, ExitReason


class OtpError(Exception):
    """The base of every error that this package raises on its own account."""


class NotAlive(OtpError):
    """Nobody is there to take the message: the target has ended, is being restarted, or never was. OTP's ``noproc``.

    It is raised at once, never after a timeout. A call that was already queued or running when its target died gets
    it, too; what the target died of is then its ``__cause__``.

    Attributes:
        target: The path of the target, or the name that could not be resolved.
        reason: What the target ended with, or None when that is not known (no such name, or it is just stopping or
            starting). A crash that was over before is in writing (:exc:`RecordedError`), here and in ``__cause__``.
    """

    def __init__(self, target: str, reason: ExitReason | None = None) -> None:
        super().__init__(target, reason)
        self.target = target
        self.reason = reason

    def __str__(self) -> str:
        if self.reason is None:
            return f"{self.target} is not alive"
        return f"{self.target} is not alive: it ended with {self.reason}"


class MailboxFull(OtpError):
    """The target's mailbox holds as many messages as it may, so this one was not accepted. OTP has no such limit.

    Attributes:
        target: The path of the target.
        size: How many messages its mailbox may hold.
    """

    def __init__(self, target: str, size: int) -> None:
        super().__init__(target, size)
        self.target = target
        self.size = size

    def __str__(self) -> str:
        return (
            f"the mailbox of {self.target} is full ({self.size} messages): it handles them more slowly than they come. "
            f"Wait for room with `await ref.send_wait(message)`, send less, or give the child a larger "
            f"`mailbox=` in its spec"
        )


class NoMailbox(OtpError):
    """The target is alive, but it is a plain task, a context manager or a supervisor: it takes no messages.

    Attributes:
        target: The path of the target.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target

    def __str__(self) -> str:
        return f"{self.target} takes no messages: only actors have a mailbox"


class CallTimeout(OtpError, TimeoutError):
    """The answer did not come in time.

    The target may still do the work (a request that it has not begun is skipped). An answer that comes later is
    dropped and counted; it can never be mistaken for the answer to another call. (In OTP the caller exits.)

    Attributes:
        target: The path of the target.
        timeout: How long the caller waited, in seconds.
    """

    def __init__(self, target: str, timeout: float) -> None:
        super().__init__(target, timeout)
        self.target = target
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.target} did not answer within {self.timeout:g} s"


class CallingSelf(OtpError):
    """An actor called itself from one of its own handlers. It could never answer: the handler waits for itself.

    OTP's ``calling_self``.

    Attributes:
        target: The path of the actor.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target

    def __str__(self) -> str:
        return f"{self.target} called itself: it cannot answer while it waits. Use the method, or send_self()"


class LinkedExit(OtpError):
    """What a child crashes with because one that it is linked to has crashed; ``__cause__`` is what that crashed with.

    Attributes:
        source: The path of the one that crashed first.
        reason: What it ended with.
    """

    def __init__(self, source: str, reason: ExitReason) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason
        self.__cause__ = _exception_of(reason)

    def __str__(self) -> str:
        return f"{self.source}, to which it is linked, ended with {self.reason}"


class NameTaken(OtpError):
    """A child could not start because somebody alive holds the name that it asked for. OTP's ``already_started``.

    Attributes:
        name: The registered name.
        holder: The path of the child that holds it.
    """

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(name, holder)
        self.name = name
        self.holder = holder

    def __str__(self) -> str:
        return f"the name {self.name!r} is held by {self.holder}"


class InitTimeout(OtpError):
    """A child did not finish starting within its `init_timeout`, and was cancelled. It is what the child crashes with.

    Attributes:
        target: The path of the child.
        timeout: Its `init_timeout` in seconds.
    """

    def __init__(self, target: str, timeout: float) -> None:
        super().__init__(target, timeout)
        self.target = target
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.target} did not start within its init_timeout of {self.timeout:g} s"


class NeverStarted(OtpError):
    """A behaviour returned from `serve` without ever having called `context.started()`.

    Attributes:
        target: The path of the child.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target

    def __str__(self) -> str:
        return f"{self.target} returned before it had called context.started()"


class FailedToStart(OtpError):
    """A child did not come up, so its supervisor did not either (or the request to start the child failed).

    When the child is a supervisor, its own ``FailedToStart`` is inside; ``chain`` lists the ids on the way down.
    ``__cause__`` is the child's exception. (OTP: ``failed_to_start_child``.)

    Attributes:
        supervisor: The path of the supervisor.
        child: The id of the child.
        reason: The exit reason of the child.
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

    ``__cause__`` is the exception of the last child, if there is one. To its parent a supervisor that gave up has
    crashed. OTP ends with ``shutdown`` there, which leaves a transient supervisor down without a word; this is a
    deliberate deviation.

    Attributes:
        supervisor: The path of the supervisor.
        child: The id of the child whose restart was one too many.
        intensity: How many restarts are allowed within ``period``.
        period: In seconds.
        reason: The last exit reason of that child.
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
