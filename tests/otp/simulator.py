"""Simulated children: carries out what a SupervisorCore orders, with neither tasks nor a clock.

By itself a child comes up at once and goes down at once when it is told to. A test makes it slow, failing or
unwilling by the sets below. Whatever happens, the promises between core and shell are checked.
"""

from collections.abc import Sequence
from random import Random

from otp._exit import Crashed, ExitReason, Shutdown
from otp._protocol import (
    AddChild,
    ChildDown,
    ChildFailedToStart,
    ChildIgnored,
    ChildState,
    ChildUp,
    Decision,
    Event,
    GiveUp,
    Note,
    RenewSpec,
    Reply,
    Request,
    RetryDue,
    ScheduleRetry,
    Start,
    StartChild,
    Started,
    StartFailed,
    StartInstance,
    Stop,
    StopChild,
    Stopped,
    TerminateChild,
)
from otp._spec import AutoShutdown, Backoff, ChildSpec, Restart, RestartBudget, Strategy, Supervisor, child
from otp._strategy import SupervisorCore


class Boom(Exception):
    pass


CRASH = Crashed(Boom("boom"))


def a_child(
    id_: str,
    restart: Restart = "permanent",
    backoff: Backoff | None = None,
    *,
    budget: RestartBudget | None = None,
    significant: bool = False,
) -> ChildSpec:
    return child(lambda *_: None, id=id_, restart=restart, backoff=backoff, budget=budget, significant=significant)


class Simulation:
    def __init__(
        self,
        children: str | Sequence[ChildSpec],
        strategy: Strategy = "one_for_one",
        *,
        intensity: int = 3,
        period: float = 5.0,
        restart: Restart = "permanent",
        backoff: Backoff | None = None,
        auto_shutdown: AutoShutdown = "never",
        max_children: int | None = None,
    ) -> None:
        specs = [a_child(id_, restart) for id_ in children.split()] if isinstance(children, str) else children
        spec = Supervisor(
            specs,
            strategy=strategy,
            intensity=intensity,
            period=period,
            backoff=backoff,
            auto_shutdown=auto_shutdown,
            max_children=max_children,
        )
        self.core = SupervisorCore(spec, path="app", rng=Random(0))
        self.parallel_stops = strategy == "simple_one_for_one"
        self.now = 0.0
        self.failing: set[str] = set()  # their starts fail
        self.ignoring: set[str] = set()  # their starts are ignored
        self.slow_start: set[str] = set()
        self.slow_stop: set[str] = set()
        self.ends_with: dict[str, ExitReason] = {}  # when told to stop; else Shutdown()
        self.alive: dict[str, int] = {}  # incarnation, from StartChild to the end
        self.starting: dict[str, StartChild] = {}
        self.stopping: dict[str, StopChild] = {}
        self.retries: list[tuple[float, int]] = []  # when due, generation
        self.replies: dict[Request, Reply] = {}
        self.log: list[str] = []
        self.outcome: StartFailed | GiveUp | Stopped | None = None
        self.started = False
        self._incarnation = 0

    # -- what a test does

    def boot(self) -> "Simulation":
        self.send(Start())
        return self

    def send(self, event: Event) -> None:
        """Hand over the event and carry out what follows; retries wait for ``settle`` or ``advance``."""
        todo = [event]
        while todo:
            event = todo.pop(0)
            for action in self.core.handle(event):
                todo += self._carry_out(action, event)

    def ask(self, request: Request) -> Reply:
        """The reply, which must come at once."""
        self.send(request)
        return self.replies[request]

    def add(self, spec: ChildSpec) -> Reply:
        return self.ask(AddChild(spec))

    def spawn(self, *args: object, key: str | None = None) -> ChildState:
        reply = self.ask(StartInstance(args, key))
        assert reply.error is None
        assert reply.child is not None
        return reply.child

    def end(self, id_: str, reason: ExitReason = CRASH) -> None:
        """The child ends by itself."""
        incarnation = self.alive.pop(id_)
        assert id_ not in self.starting
        self.stopping.pop(id_, None)
        self.log.append(f"end {id_}")
        self.send(ChildDown(id_, incarnation, reason, self.now))

    def come_up(self, id_: str) -> None:
        """A slow start succeeds."""
        self.send(ChildUp(id_, self.starting.pop(id_).incarnation, self.now))

    def fail_to_start(self, id_: str) -> None:
        """A slow start fails."""
        del self.starting[id_]
        self.stopping.pop(id_, None)
        self.send(ChildFailedToStart(id_, self.alive.pop(id_), CRASH, self.now))

    def finish(self, id_: str) -> None:
        """A slow stop is done."""
        self.starting.pop(id_, None)
        action = self.stopping.pop(id_)
        del self.alive[id_]
        self.send(ChildDown(id_, action.incarnation, self.ends_with.get(id_, Shutdown()), self.now))

    def settle(self) -> None:
        """Let all retries happen that are due."""
        self.advance(0.0)

    def settle_once(self) -> None:
        """Let one retry happen that is due now."""
        due, generation = min(self.retries)
        assert due <= self.now
        self.retries.remove((due, generation))
        self.send(RetryDue(generation, self.now))

    def advance(self, seconds: float) -> None:
        """Let time pass, and retries happen that fall due in it."""
        until = self.now + seconds
        while self.retries and min(self.retries)[0] <= until:
            self.now = max(self.now, min(self.retries)[0])
            self.settle_once()
        self.now = until

    def stop(self) -> None:
        self.send(Stop(Shutdown()))

    # -- what a test looks at

    def took(self) -> list[str]:
        """What was ordered since the last time: ``start a``, ``stop b`` ... and which children ended by themselves."""
        log, self.log = self.log, []
        return log

    def statuses(self) -> dict[str, str]:
        return {state.id: state.status for state in self.core.which()}

    def verdicts(self) -> list[str]:
        return [decision.verdict for decision in self.core.history]

    def last(self) -> Decision:
        return self.core.history[-1]

    # -- the shell's part

    def _carry_out(self, action: object, event: Event) -> list[Event]:
        assert self.outcome is None or isinstance(action, Reply), f"{action} after the end"
        match action:
            case StartChild(id=id_, incarnation=incarnation):
                assert not self.starting, "two starts at a time"
                assert id_ not in self.alive, "two incarnations at a time"
                assert incarnation > self._incarnation, "an incarnation given twice"
                self._incarnation = incarnation
                self.log.append(f"start {id_}")
                if id_ in self.failing:
                    return [ChildFailedToStart(id_, incarnation, CRASH, self.now)]
                if id_ in self.ignoring:
                    return [ChildIgnored(id_, incarnation)]
                self.alive[id_] = incarnation
                if id_ in self.slow_start:
                    self.starting[id_] = action
                    return []
                return [ChildUp(id_, incarnation, self.now)]
            case StopChild(id=id_, incarnation=incarnation):
                assert self.alive[id_] == incarnation, "the wrong incarnation"
                assert id_ not in self.stopping, "stopped twice"
                asked_for = isinstance(event, TerminateChild) and event.id == id_
                assert self.parallel_stops or asked_for or not self.stopping, "two stops at a time"
                self.log.append(f"stop {id_}")
                if id_ in self.slow_stop:
                    self.stopping[id_] = action
                    return []
                self.starting.pop(id_, None)
                del self.alive[id_]
                return [ChildDown(id_, incarnation, self.ends_with.get(id_, Shutdown()), self.now)]
            case ScheduleRetry(generation=generation, delay=delay):
                self.retries.append((self.now + delay, generation))
            case Reply(request=request):
                assert request not in self.replies, "two replies"
                self.replies[request] = action
            case Started():
                assert not self.started
                self.started = True
            case StartFailed() | GiveUp() | Stopped():
                assert not self.alive, "children left at the end"
                self.outcome = action
            case RenewSpec(id=id_, incarnation=incarnation):
                assert self.alive[id_] == incarnation, "the wrong incarnation"
            case Note():
                pass
            case _:
                raise AssertionError(action)
        return []
