"""The rules of a supervisor, said once more and as plainly as possible: the model the core is compared with.

Sets and lists that are looked through from end to end; what the core keeps in queues and flags is found here by
asking who is in which set. It shares nothing with the core but the words of the protocol.
"""

from dataclasses import dataclass

from otp._errors import FailedToStart
from otp._exit import ExitReason, is_normal_class
from otp._protocol import (
    AddChild,
    Change,
    DeleteChild,
    GiveUp,
    Request,
    RestartChild,
    StartFailed,
    StartInstance,
    Stopped,
    TerminateChild,
)
from otp._refusals import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    MaxChildren,
    SupervisorStopped,
    WrongStrategy,
)
from otp._spec import ChildSpec, Supervisor


@dataclass
class Early:
    """Ended before the boot was over."""

    id: str
    birth: int
    spec: ChildSpec
    now: float
    for_good: bool


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
        self.early: list[Early] = []
        self.parked: set[str] = set()
        self.hold = False
        self.births: dict[str, int] = {id_: n for n, id_ in enumerate(self.children)}
        self.charges: list[float] = []
        self.accounts: dict[str, list[float]] = {}  # of those with a budget
        self.began: dict[int, str] = {}  # who began to wait, by generation
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
            self._succeeded(id_)

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
            self._succeeded(id_)
            if self._forgettable(id_):
                self._forget(id_)
        elif starting and self.phase != "ending":
            if id_ in self.asked:
                self.failed &= self.missing | (self.failed - {id_})
                self._answer_failure(id_)
            elif self.phase == "booting":
                self.stop(StartFailed)
            elif not condemned and self.children[id_].restart != "temporary":
                self._fail(id_, now, retry=True)
            elif not condemned:  # made temporary while it came up: an end like any other of such a child
                spec = self.children[id_]
                self._forget(id_)
                self._ended_for_good(spec)
            elif id_ not in self.missing and id_ not in self.waiting:
                self._forget(id_)
        elif not starting:
            assert reason is not None
            self._ended_by_itself(id_, reason, now)

    def _succeeded(self, id_: str) -> None:
        self.failed &= self.missing | (self.failed - {id_})
        self.parked.discard(id_)
        self._answer(id_, type(None))

    def _ended_by_itself(self, id_: str, reason: ExitReason, now: float) -> None:
        spec, birth = self.children[id_], self.births[id_]
        for_good = spec.restart == "temporary" or (spec.restart == "transient" and is_normal_class(reason))
        if not for_good:
            self.failed.add(id_)
        elif self._forgettable(id_):
            self._forget(id_)
        if self.phase == "booting":
            self.early.append(Early(id_, birth, spec, now, for_good))
        elif for_good:
            self._ended_for_good(spec)
        else:
            self._fail(id_, now, retry=False)

    def _ended_for_good(self, spec: ChildSpec) -> None:
        if not spec.significant or self.spec.auto_shutdown == "never":
            return
        back = self.missing | self.failed | self.parked | set(self.waiting)
        back |= self.up - self.condemned - set(self.enders)
        if self.spec.auto_shutdown == "any_significant" or not any(self.children[id_].significant for id_ in back):
            self.stop(Stopped)

    def retry_due(self, generation: int, now: float) -> None:
        members = [id_ for id_ in self.children if self.waiting.get(id_) == generation]
        if not members:
            return
        cause = self.began.get(generation)
        if cause not in members or cause not in self.failed:
            cause = next((id_ for id_ in members if id_ in self.failed), None)
        group = members
        if self.grouped:
            group = [id_ for id_ in self._group(members[0]) if id_ in set(members) | self.up | self.stopping]
        self._restart(group, cause, now)

    def request(self, request: Request) -> None:
        answer = self._refusal(request)
        if answer is not None:
            self.replies[request] = answer
            return
        match request:
            case AddChild(spec=spec):
                self._add(spec.id, spec)
                self._ask(spec.id, request)
            case StartInstance():
                id_ = self._instance(request)
                self.instances += request.key is None
                self._add(id_, self.spec.children[0])
                self._ask(id_, request)
            case RestartChild(id=id_):
                self.accounts.pop(id_, None)
                self._ask(id_, request)
            case Change(spec=spec):
                self._change(spec)
                self.replies[request] = type(None)
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
            self._restart(group, id_, now)
            return
        delay = 0.0
        if backoff is not None:
            healthy = id_ in self.up_since and now - self.up_since[id_] >= backoff.reset_after
            self.tries[id_] = 1 if healthy else self.tries.get(id_, 0) + 1
            delay = min(backoff.cap, backoff.initial * backoff.factor ** (self.tries[id_] - 1))
        self.generations += 1
        self.retries.append((self.generations, delay))
        self.began[self.generations] = id_
        self._gather(group, id_, self.generations)

    def _restart(self, group: list[str], cause: str | None, now: float) -> None:
        budget = None if cause is None else self.children[cause].budget
        if cause is None or budget is None:
            self.charges = [stamp for stamp in self.charges if now - stamp <= self.spec.period]  # the others for good
            self.charges.append(now)
            if len(self.charges) > self.spec.intensity:
                self.stop(GiveUp)
            else:
                self._gather(group, cause, None)
            return
        stamps = [stamp for stamp in self.accounts.get(cause, []) if now - stamp <= budget.period]
        self.accounts[cause] = [*stamps, now]
        if len(stamps) < budget.intensity:
            self._gather(group, cause, None)
        elif budget.on_exceed == "escalate":
            self.stop(GiveUp)
        else:
            self._gather([id_ for id_ in group if id_ != cause], cause, None)
            self._take_out(cause)
            if budget.on_exceed == "park":
                self.parked.add(cause)
            else:
                spec = self.children[cause]
                self._forget(cause)
                self._ended_for_good(spec)

    def used(self, now: float) -> int:
        return len([stamp for stamp in self.charges if now - stamp <= self.spec.period])

    def _gather(self, group: list[str], cause: str | None, generation: int | None) -> None:
        resting = {id_ for id_ in self.parked if self.status(id_) == "parked"}
        for id_ in set(group) - set(self.enders) - resting:
            self.condemned |= {id_} & self.up
            self.hold |= id_ in self.up | self.stopping
            if self.children[id_].restart == "temporary" and id_ != cause and id_ not in self.waiting:
                continue
            if generation is None:
                self.waiting.pop(id_, None)
                self.missing.add(id_)
                self.failed.add(id_)
            else:
                if id_ not in self.asked:
                    self.missing.discard(id_)
                if id_ not in self.waiting:
                    self.failed.discard(id_)
                self.waiting[id_] = generation
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
        if isinstance(request, Change):
            changes_kind = self.simple != (request.spec.strategy == "simple_one_for_one")
            return ValueError if changes_kind else None
        if self.simple:
            if isinstance(request, StartInstance):
                return self._refusal_of_instance(request)
            if isinstance(request, RestartChild | DeleteChild) and self.status(request.id) == "parked":
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
            if id_ in self.children:
                return self._present(id_)
            return ValueError if request.spec.significant and self.spec.auto_shutdown == "never" else None
        if id_ not in self.children:
            return ChildNotFound
        if isinstance(request, TerminateChild) or self.status(id_) in ("stopped", "parked"):
            return None
        return ChildRestarting if self.status(id_) == "restarting" else ChildRunning

    def _refusal_of_instance(self, request: StartInstance) -> type | None:
        if (id_ := self._instance(request)) in self.children:
            return self._present(id_)
        limit = self.spec.max_children
        return MaxChildren if limit is not None and len(self.children) >= limit else None

    def _instance(self, request: StartInstance) -> str:
        return f"{self.spec.children[0].id}:{self.instances + 1 if request.key is None else request.key}"

    def _present(self, id_: str) -> type:
        return AlreadyPresent if self.status(id_) in ("stopped", "parked", "restarting") else AlreadyStarted

    def _add(self, id_: str, spec: ChildSpec) -> None:
        self.children[id_] = spec
        self.births[id_] = max(self.births.values(), default=0) + 1

    def _change(self, spec: Supervisor) -> None:
        self.spec = spec
        self.grouped = spec.strategy in ("one_for_all", "rest_for_one")
        if self.simple:
            new = dict.fromkeys(self.children, spec.children[0])
        else:
            new = {each.id: each for each in spec.children}
        for id_ in set(new) - set(self.children):
            self._add(id_, new[id_])
        self.children = {**new, **{id_: old for id_, old in self.children.items() if id_ not in new}}
        for early in self.early:
            if self.births.get(early.id) == early.birth and early.id in self.children:
                early.spec = self.children[early.id]
        for id_ in list(self.accounts):
            if self.children[id_].budget is None:
                del self.accounts[id_]

    def _ask(self, id_: str, request: Request) -> None:
        self.asked[id_] = request
        self.missing.add(id_)

    def _terminate(self, id_: str, request: Request) -> None:
        self._take_out(id_)
        self.parked.discard(id_)
        self.accounts.pop(id_, None)
        self.tries.pop(id_, None)
        if id_ in self.up | self.stopping:
            self.enders.setdefault(id_, []).append(request)
            if id_ in self.up:
                self._tell_to_stop(id_)
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
        if id_ in self.parked:
            self._take_out(id_)
        elif not keep:
            self._forget(id_)

    def _forgettable(self, id_: str) -> bool:
        return self.simple or self.children[id_].restart == "temporary"

    def _take_out(self, id_: str) -> None:
        """No start of it, and no restart, is to come."""
        self.missing.discard(id_)
        self.failed.discard(id_)
        self.waiting.pop(id_, None)

    def _forget(self, id_: str) -> None:
        self._take_out(id_)
        self.parked.discard(id_)
        for group in (self.children, self.tries, self.up_since, self.accounts):
            group.pop(id_, None)
        self.began = {generation: cause for generation, cause in self.began.items() if cause != id_}

    # -- what must follow

    def follow(self) -> None:
        """Work out what the core must order now."""
        if self.phase == "booting" and self.coming_up is None and not self.missing:
            self.phase = "up"
            self.started = True
            for early in self.early:
                same = early.id in self.children and self.births[early.id] == early.birth
                if self.phase != "up":
                    break
                if early.for_good:
                    self._ended_for_good(early.spec)
                elif same and early.id in self.failed - self.missing:
                    self._fail(early.id, early.now, retry=False)
            self.early.clear()
        in_order = [id_ for id_ in self.children if id_ in self.condemned]
        if self.simple:
            stops = in_order
        elif self.stopping or not in_order:
            stops = []
        else:
            last = in_order[-1]
            unfinished = last == self.coming_up and self.phase != "ending"
            stops = [] if unfinished else [last]
        for id_ in stops:
            self._tell_to_stop(id_)
        if self.phase == "ending":
            if not self.up | self.stopping:
                self.phase = "over"
        elif self.phase != "new" and self.coming_up is None:
            self.hold &= bool(self.condemned or self.stopping)
            held_up = self.hold or (self.grouped and (self.condemned or self.stopping))
            first = next((id_ for id_ in self.children if id_ in self.missing), None)
            if first is not None and not held_up:
                self.orders.add(("start", first))
                self.missing.discard(first)
                self.up_since.pop(first, None)
                self.up.add(first)
                self.coming_up = first

    def _tell_to_stop(self, id_: str) -> None:
        self.orders.add(("stop", id_))
        self.up.discard(id_)
        self.condemned.discard(id_)
        self.stopping.add(id_)

    def status(self, id_: str) -> str:
        if id_ in self.stopping:
            return "stopping"
        if id_ in self.up:
            return "starting" if id_ == self.coming_up else "running"
        if id_ in self.failed:
            return "restarting"
        if id_ in self.missing:
            return "starting"
        return "parked" if id_ in self.parked else "stopped"
