"""What a supervisor refuses, and why: the errors that answer a request."""

from __future__ import annotations

from ._errors import OtpError


class SupervisorError(OtpError):
    """A supervisor refused a request: it does not fit the state of the child.

    Attributes:
        supervisor: The path of the supervisor.
        child: The id that was asked for, if one was.
        says: How the message of this kind of error ends.
    """

    says = "cannot do that"

    def __init__(self, supervisor: str, child: str | None = None) -> None:
        super().__init__(supervisor, child)
        self.supervisor = supervisor
        self.child = child

    def __str__(self) -> str:
        whose = self.supervisor if self.child is None else f"{self.supervisor}: child {self.child!r}"
        return f"{whose} {self.says}"


class ChildNotFound(SupervisorError):
    """There is no child of that id (OTP: ``not_found``)."""

    says = "is not known"


class AlreadyPresent(SupervisorError):
    """A child of that id is there but not alive: restart it or delete it (OTP: ``already_present``)."""

    says = "is already there, though not running"


class AlreadyStarted(SupervisorError):
    """A child of that id is alive already (OTP: ``already_started``)."""

    says = "has been started already"


class ChildRunning(SupervisorError):
    """The child is alive, or about to be; it must be stopped for that (OTP: ``running``)."""

    says = "is running"


class ChildRestarting(SupervisorError):
    """The child is being restarted or waits for it; it must be stopped for that (OTP: ``restarting``)."""

    says = "is being restarted"


class WrongStrategy(SupervisorError):
    """The request has no meaning under the strategy of the supervisor (OTP: ``simple_one_for_one``)."""

    says = "has a strategy that knows no such request"


class MaxChildren(SupervisorError):
    """The supervisor has as many instances as its ``max_children`` allows (Elixir: ``max_children``).

    Attributes:
        limit: How many those are.
    """

    def __init__(self, supervisor: str, limit: int) -> None:
        super().__init__(supervisor)
        self.args = (supervisor, limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.supervisor} has {self.limit} instances, and max_children allows no more"


class SupervisorStopped(SupervisorError):
    """The supervisor is not up: not started, on its way down, or down (OTP: ``noproc``)."""

    says = "does not run"
