"""The rules of a supervisor, said once more and as plainly as possible: the model the core is compared with.

Sets and lists that are looked through from end to end; what the core keeps in queues and flags is found here by
asking who is in which set. It shares nothing with the core but the words of the protocol.
"""

from otp._errors import FailedToStart
from otp._exit import ExitReason, is_normal_class
from otp._protocol import (
    AddChild,
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    DeleteChild,
    GiveUp,
    Request,
    RestartChild,
    StartFailed,
    StartInstance,
    Stopped,
    SupervisorStopped,
    TerminateChild,
    WrongStrategy,
)
from otp._spec import ChildSpec, Supervisor


class Rules:
    def __init__(self, spec: Supervisor) -> None:
        self.spec = spec
        self.simple = spec.strategy == "simple_one_for_one"
        self.grouped = spec.strategy in ("one_for_all", "rest_for_one")
        self.children: dict[str, ChildSpec] = {} if self.simple else {c.id: c for c in spec.children}  # in order
        self.phase = "new"
        self.outcome: type = type(None)
        self.coming_up: str | None = None  # whose start is under way, also when it is being stopped already
        self.up: set[str] = set()  # or coming up
        self.stopping: set[str] = set()
        self.condemned: set[str] = set()  # among those up
        self.missing: set[str] = set()
        self.failed: set[str] = set()
        self.waiting: dict[str, int] = {}
        self.asked: dict[str, Request] = {}
        self.enders: dict[str, list[Request]] = {}
        self.early: list[tuple[str, float, object]] = []
        self.charges: list[float] = []
        self.tries: dict[str, int] = {}
        self.up_since: dict[str, float] = {}
        self.generations = 0
        self.instances = 0
        # what is expected of the core for the event at hand
        self.replies: dict[Request, type] = {}
        self.retries: list[tuple[int, float]] = []  # generation, longest delay
        self.orders: set[tuple[str, str]] = set()
        self.started = False

    # -- what happens

    def start(self) -> None:
        self.phase = "booting"
        self.missing |= set(self.children)

    def stop(self, outcome: type = Stopped) -> None:
        if self.phase in ("ending", "over"):
            return
        self.phase, self.outcome = "ending", outcome
        for request in self.asked.values():
            self.replies[request] = SupervisorStopped
        self.condemned |= self.up
        for group in (self.missing, self.failed, self.waiting, self.asked):
            group.clear()

    def came_up(self, id_: str, now: float) -> None:
        self.coming_up = None
        if id_ in self.up:
            self.up_since[id_] = now
            self.failed &= self.missing | (self.failed - {id_})
            self._answer(id_, type(None))

    def ended(self, id_: str, reason: ExitReason | None, now: float) -> None:
        """For whatever reason; None is an ignored start."""
        starting = self.coming_up == id_ and id_ in self.up
        told = id_ in self.stopping or id_ in self.enders
        condemned = id_ in self.condemned
        self.coming_up = None if self.coming_up == id_ else self.coming_up
        self.up.discard(id_)
        self.stopping.discard(id_)
        self.condemned.discard(id_)
        for request in self.enders.pop(id_, []):
            self.replies[request] = type(None)
        if told or (condemned and not starting):
            if id_ in self.asked:
                self._answer_failure(id_)
            elif self._forgettable(id_) and self.phase != "ending":
                self._forget(id_)
        elif starting and reason is None:
            self.failed &= self.missing | (self.failed - {id_})
            self._answer(id_, type(None))
            if self._forgettable(id_):
                self._forget(id_)
        elif starting and self.phase != "ending":
            if id_ in self.asked:
                self._answer_failure(id_)
            elif self.phase == "booting":
                self.stop(StartFailed)
            elif not condemned:
                self._fail(id_, now, retry=True)
        elif not starting:
            assert reason is not None
            self._ended_by_itself(id_, reason, now)

    def _ended_by_itself(self, id_: str, reason: ExitReason, now: float) -> None:
        restart = self.children[id_].restart
        if restart == "temporary" or (restart == "transient" and is_normal_class(reason)):
            if self._forgettable(id_):
                self._forget(id_)
            return
        self.failed.add(id_)
        if self.phase == "booting":
            self.early.append((id_, now, self.children[id_]))
        else:
            self._fail(id_, now, retry=False)

    def retry_due(self, generation: int, now: float) -> None:
        members = {id_ for id_, waits_for in self.waiting.items() if waits_for == generation}
        if members:
            first = next(id_ for id_ in self.children if id_ in members)
            self._restart([id_ for id_ in self._group(first) if id_ in members | self.up | self.stopping], now)

    def request(self, request: Request) -> None:
        answer = self._refusal(request)
        if answer is not None:
            self.replies[request] = answer
            return
        match request:
            case AddChild(spec=spec):
                self.children[spec.id] = spec
                self._ask(spec.id, request)
            case StartInstance():
                self.instances += 1
                id_ = f"{self.spec.children[0].id}:{self.instances}"
                self.children[id_] = self.spec.children[0]
                self._ask(id_, request)
            case RestartChild(id=id_):
                self._ask(id_, request)
            case DeleteChild(id=id_):
                self._forget(id_)
                self.replies[request] = type(None)
            case TerminateChild(id=id_):
                self._terminate(id_, request)

    # -- restarts

    def _fail(self, id_: str, now: float, *, retry: bool) -> None:
        self.failed.add(id_)
        group = self._group(id_)
        waits = [self.waiting[member] for member in group if member in self.waiting]
        if waits:
            self._gather(group, id_, waits[0])
            return
        backoff = self.children[id_].backoff or self.spec.backoff
        if backoff is None and not retry:
            self._restart(group, now)
            return
        delay = 0.0
        if backoff is not None:
            healthy = id_ in self.up_since and now - self.up_since[id_] >= backoff.reset_after
            self.tries[id_] = 1 if healthy else self.tries.get(id_, 0) + 1
            delay = min(backoff.cap, backoff.initial * backoff.factor ** (self.tries[id_] - 1))
        self.generations += 1
        self.retries.append((self.generations, delay))
        self._gather(group, id_, self.generations)

    def _restart(self, group: list[str], now: float) -> None:
        self.charges.append(now)
        if len([stamp for stamp in self.charges if now - stamp <= self.spec.period]) > self.spec.intensity:
            self.stop(GiveUp)
        else:
            self._gather(group, None, None)

    def _gather(self, group: list[str], cause: str | None, generation: int | None) -> None:
        for id_ in set(group) - set(self.enders):
            self.condemned |= {id_} & self.up
            if self.children[id_].restart == "temporary":
                continue
            if generation is None:
                self.waiting.pop(id_, None)
                self.missing.add(id_)
                self.failed.add(id_)
            else:
                if id_ not in self.asked:
                    self.missing.discard(id_)
                if self.waiting.get(id_) != generation:
                    self.waiting[id_] = generation
                    self.failed.discard(id_)
        if generation is not None and cause is not None:
            self.failed.add(cause)

    def _group(self, id_: str) -> list[str]:
        order = list(self.children)
        match self.spec.strategy:
            case "one_for_all":
                return order
            case "rest_for_one":
                return order[order.index(id_) :]
            case _:
                return [id_]

    # -- requests

    def _refusal(self, request: Request) -> type | None:
        if self.phase not in ("booting", "up"):
            return SupervisorStopped
        if self.simple:
            if isinstance(request, StartInstance):
                return None
            if not isinstance(request, TerminateChild) or request.id == self.spec.children[0].id:
                return WrongStrategy
            over = [f"{self.spec.children[0].id}:{n}" for n in range(1, self.instances + 1)]
            if request.id not in self.children:
                return type(None) if request.id in over else ChildNotFound
            return None
        if isinstance(request, StartInstance):
            return WrongStrategy
        id_ = request.spec.id if isinstance(request, AddChild) else request.id
        if isinstance(request, AddChild):
            if id_ not in self.children:
                return None
            return AlreadyPresent if self.status(id_) in ("stopped", "restarting") else AlreadyStarted
        if id_ not in self.children:
            return ChildNotFound
        if isinstance(request, TerminateChild) or self.status(id_) == "stopped":
            return None
        return ChildRestarting if self.status(id_) == "restarting" else ChildRunning

    def _ask(self, id_: str, request: Request) -> None:
        self.asked[id_] = request
        self.missing.add(id_)

    def _terminate(self, id_: str, request: Request) -> None:
        self.missing.discard(id_)
        self.failed.discard(id_)
        self.waiting.pop(id_, None)
        self.tries.pop(id_, None)
        if id_ in self.up | self.stopping:
            self.enders.setdefault(id_, []).append(request)
            self.condemned |= {id_} & self.up
            return
        self.replies[request] = type(None)
        if id_ in self.asked:
            self._answer_failure(id_)
        elif self._forgettable(id_):
            self._forget(id_)

    def _answer(self, id_: str, answer: type) -> None:
        if id_ in self.asked:
            self.replies[self.asked.pop(id_)] = answer

    def _answer_failure(self, id_: str) -> None:
        keep = isinstance(self.asked[id_], RestartChild) and not self._forgettable(id_)
        self._answer(id_, FailedToStart)
        if not keep:
            self._forget(id_)

    def _forgettable(self, id_: str) -> bool:
        return self.simple or self.children[id_].restart == "temporary"

    def _forget(self, id_: str) -> None:
        del self.children[id_]
        self.missing.discard(id_)
        self.failed.discard(id_)
        self.waiting.pop(id_, None)
        self.tries.pop(id_, None)
        self.up_since.pop(id_, None)

    # -- what must follow

    def follow(self) -> None:
        """Work out what the core must order now."""
        if self.phase == "booting" and self.coming_up is None and not self.missing:
            self.phase = "up"
            self.started = True
            for id_, now, spec in self.early:
                same = self.children.get(id_) is spec
                if same and self.phase == "up" and id_ in self.failed - self.missing:
                    self._fail(id_, now, retry=False)
            self.early.clear()
        in_order = [id_ for id_ in self.children if id_ in self.condemned]
        if self.simple:
            stops = in_order
        elif self.stopping or not in_order:
            stops = []
        else:
            last = in_order[-1]
            unfinished = last == self.coming_up and self.phase != "ending" and last not in self.enders
            stops = [] if unfinished else [last]
        for id_ in stops:
            self.orders.add(("stop", id_))
            self.up.discard(id_)
            self.condemned.discard(id_)
            self.stopping.add(id_)
        if self.phase == "ending":
            if not self.up | self.stopping:
                self.phase = "over"
        elif self.phase != "new" and self.coming_up is None:
            held_up = self.grouped and (self.condemned or self.stopping)
            first = next((id_ for id_ in self.children if id_ in self.missing), None)
            if first is not None and not held_up:
                self.orders.add(("start", first))
                self.missing.discard(first)
                self.up_since.pop(first, None)
                self.up.add(first)
                self.coming_up = first

    def status(self, id_: str) -> str:
        if id_ in self.stopping:
            return "stopping"
        if id_ in self.up:
            return "starting" if id_ == self.coming_up else "running"
        if id_ in self.failed:
            return "restarting"
        return "starting" if id_ in self.missing else "stopped"
