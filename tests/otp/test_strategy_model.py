"""The supervision core under every interleaving Hypothesis can think of, against the plain rules and on its own."""

from random import Random
from typing import TYPE_CHECKING, Any, get_args

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otp._exit import Crashed, ExitReason, Killed, Normal, Shutdown
from otp._protocol import (
    AddChild,
    Change,
    ChildDown,
    ChildFailedToStart,
    ChildIgnored,
    ChildUp,
    Decision,
    DeleteChild,
    Event,
    GiveUp,
    Note,
    RenewSpec,
    Reply,
    Request,
    RestartChild,
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
from tests.otp.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = ("a", "b", "c", "d", "e")
REASONS: st.SearchStrategy[ExitReason] = st.sampled_from(
    [Normal(), Shutdown(), Shutdown("x"), Killed(), Crashed(ValueError("boom"))]
)
BACKOFF = Backoff(initial=1.0, factor=3.0, cap=5.0, jitter=0.5, reset_after=4.0)


def nothing(*_: object) -> None: ...


BUDGETS = [
    RestartBudget(intensity=1, on_exceed="park"),
    RestartBudget(intensity=0, on_exceed="park"),
    RestartBudget(intensity=0, on_exceed="drop"),
    RestartBudget(intensity=1, on_exceed="escalate"),
]


@attrs.frozen
class Theme:
    """What a run is mostly about: what is drawn from everything meets nothing often enough."""

    restarts: tuple[Restart, ...] = ("permanent", "permanent", "transient", "temporary")
    significant: tuple[bool, ...] = (False,)
    auto_shutdown: tuple[AutoShutdown, ...] = ("never",)
    budgets: tuple[RestartBudget | None, ...] = (None,)
    backoffs: tuple[Backoff | None, ...] = (None, None, BACKOFF)
    intensities: tuple[int, ...] = (0, 1, 3, 6, 1000, 1000)
    limits: tuple[int | None, ...] = (None,)
    changes: int = 0


MODES: tuple[AutoShutdown, ...] = ("any_significant", "all_significant", "all_significant", "never")
THEMES = [
    Theme(limits=(None, 1, 3)),
    Theme(
        restarts=("transient", "transient", "temporary", "permanent"),
        significant=(True, True, False),
        auto_shutdown=MODES,
        budgets=(None, None, None, *BUDGETS[1:3]),
        backoffs=(None, None, None, BACKOFF),
        intensities=(1000,),
    ),
    Theme(
        restarts=("permanent", "transient"),
        budgets=(None, *BUDGETS),
        backoffs=(None, BACKOFF),
        intensities=(3, 1000),
        limits=(None, 1, 3),
    ),
    Theme(
        restarts=("permanent", "permanent", "permanent", "temporary", "transient"),
        budgets=(None, None, None, *BUDGETS),
        backoffs=(None, BACKOFF),
        significant=(False, False, True),
        auto_shutdown=MODES,
        limits=(None, 3),
        intensities=(3, 1000, 1000, 1000),
        changes=3,
    ),
]


@st.composite
def specs(draw: st.DrawFn, theme: Theme, id_: str, *, significant: bool = True) -> ChildSpec:
    restart = draw(st.sampled_from(theme.restarts))
    return child(
        nothing,
        id=id_,
        restart=restart,
        significant=significant and restart != "permanent" and draw(st.sampled_from(theme.significant)),
        backoff=draw(st.sampled_from(theme.backoffs)),
        budget=draw(st.sampled_from(theme.budgets)),
    )


@st.composite
def supervisors(
    draw: st.DrawFn, theme: Theme, *, kinds: tuple[Strategy, ...] = get_args(Strategy), most: int = 4
) -> Supervisor:
    strategy: Strategy = draw(st.sampled_from(kinds))
    simple = strategy == "simple_one_for_one"
    auto_shutdown: AutoShutdown = "never" if simple else draw(st.sampled_from(theme.auto_shutdown))
    ids = IDS[:1] if simple else draw(st.permutations(IDS))[: draw(st.integers(0, most))]
    return Supervisor(
        [draw(specs(theme, id_, significant=auto_shutdown != "never")) for id_ in ids],
        strategy=strategy,
        intensity=draw(st.sampled_from(theme.intensities)),
        period=draw(st.sampled_from([5.0, 2.0])) if theme.changes else 5.0,
        backoff=draw(st.sampled_from([None, None, *theme.backoffs])),
        auto_shutdown=auto_shutdown,
        max_children=draw(st.sampled_from(theme.limits)) if simple else None,
    )


@st.composite
def revisions(draw: st.DrawFn, theme: Theme, model: Rules, kinds: tuple[Strategy, ...]) -> Supervisor:
    """Another spec for a supervisor that runs: mostly what it has, in another order and with another strategy."""
    children = list(model.children.values())
    if model.simple or not children:
        return draw(supervisors(theme, kinds=kinds, most=5))
    children = [
        each if draw(st.integers(0, 3)) else draw(specs(theme, each.id)) for each in draw(st.permutations(children))
    ]
    children = children[draw(st.integers(0, 1)) :]
    modes = [mode for mode in MODES if mode != "never" or not any(each.significant for each in children)]
    return Supervisor(
        children,
        strategy=draw(st.sampled_from(kinds)),
        intensity=draw(st.sampled_from(theme.intensities)),
        period=draw(st.sampled_from([5.0, 2.0])),
        auto_shutdown=draw(st.sampled_from(modes)),
    )


class CoreMachine(RuleBasedStateMachine):
    @initialize(data=st.data(), theme=st.sampled_from(THEMES), boot=st.sampled_from(["easy", "any"]))
    def begin(self, data: st.DataObject, theme: Theme, boot: str) -> None:
        self.theme = theme
        self.start_with(data.draw(supervisors(theme)), Random(data.draw(st.integers(0, 9))))
        if boot == "easy" and self.starting is not None:
            self.everything_is_answered()

    def start_with(self, spec: Supervisor, rng: Random) -> None:
        self.core = SupervisorCore(spec, path="app", rng=rng)
        self.model = Rules(spec)
        self.now = 0.0
        # What the shell knows.
        self.live: dict[str, int] = {}
        self.starting: StartChild | None = None
        self.stopping: dict[str, int] = {}
        self.retries: list[tuple[int, float]] = []
        self.open_requests: set[Request] = set()
        self.past: list[Event] = []
        self.ends: list[object] = []
        self.incarnation = 0
        # For what is checked without the rules.
        self.failures = 0
        self.charges = 0
        self.life_specs: dict[str, ChildSpec] = {}
        self.lives: dict[str, int] = {}
        self.resting: set[str] = set()
        self.model.start()
        self.hand_over(Start())

    def hand_over(self, event: Event) -> None:
        """Give the event to the core and compare what it orders with the rules, which have seen it already."""
        orders = set()
        replies: dict[Request, type] = {}
        retries = []
        if isinstance(event, AddChild | StartInstance | TerminateChild | RestartChild | DeleteChild | Change):
            self.open_requests.add(event)
        actions = self.core.handle(event)
        for action in actions:
            match action:
                case StartChild(id=id_):
                    orders.add(("start", id_))
                    self.check_start(action)
                case StopChild(id=id_):
                    orders.add(("stop", id_))
                    self.check_stop(action)
                case Reply(request=request, error=error):
                    assert request in self.open_requests, "two replies, or one to nobody"
                    self.open_requests.remove(request)
                    replies[request] = type(error)
                    self.note_reply(request, error)
                case ScheduleRetry(generation=generation, delay=delay):
                    retries.append((generation, delay))
                case RenewSpec(id=id_, incarnation=incarnation, spec=spec):
                    assert self.live[id_] == incarnation
                    self.life_specs[id_] = spec
                case Note(decision=decision):
                    if decision.verdict in ("restart", "retry", "give up", "park", "drop"):
                        self.check_charge(decision)
                case StartFailed() | GiveUp() | Stopped():
                    assert not self.live, "children left at the end"
                    assert action is actions[-1] or not orders
                    self.ends.append(action)
        self.model.follow()
        assert orders == self.model.orders
        assert (Started() in actions) == self.model.started
        assert replies == self.model.replies
        assert [generation for generation, _ in retries] == [generation for generation, _ in self.model.retries]
        for (_, delay), (_, longest) in zip(retries, self.model.retries, strict=True):
            assert longest / 2 <= delay <= longest
        self.retries += retries
        self.model.orders, self.model.replies, self.model.retries = set(), {}, []
        self.model.started = False
        assert len(self.ends) <= 1
        assert [type(end) for end in self.ends] == ([self.model.outcome] if self.model.phase == "over" else [])

    # -- what holds whatever the rules say

    def check_start(self, action: StartChild) -> None:
        assert self.starting is None, "two starts at a time"
        assert action.id not in self.live, "two incarnations at a time"
        assert action.incarnation > self.incarnation, "an incarnation given twice"
        assert not self.ends
        self.incarnation = action.incarnation
        self.starting = action
        self.live[action.id] = action.incarnation
        self.life_specs[action.id] = action.spec
        self.lives[action.id] = self.lives.get(action.id, 0) + 1
        if action.spec.restart == "temporary":
            assert self.lives[action.id] == 1, "a temporary child restarted"

    def check_stop(self, action: StopChild) -> None:
        assert self.live[action.id] == action.incarnation, "the wrong incarnation"
        assert action.id not in self.stopping, "stopped twice"
        if self.core.spec.strategy != "simple_one_for_one":
            assert not self.stopping or action.id in self.model.enders, "two stops at a time"
            if self.model.phase == "ending":
                order = [state.id for state in self.core.which()]
                assert action.id == [id_ for id_ in order if id_ in self.live][-1], "not in reverse order"
        self.stopping[action.id] = action.incarnation

    def check_charge(self, decision: Decision) -> None:
        self.charges += 1
        assert (decision.verdict in ("give up", "park", "drop")) == (decision.used > decision.limit)
        assert self.charges <= self.failures, "more charges than failures"

    def note_reply(self, request: Request, error: object) -> None:
        if error is not None:
            return
        match request:
            case TerminateChild(id=id_):
                self.resting.add(id_)
            case DeleteChild(id=id_):
                self.resting.discard(id_)
                self.lives[id_] = 0

    @invariant()
    def the_states_agree(self) -> None:
        states = self.core.which()
        assert {s.id: s.status for s in states} == {id_: self.model.status(id_) for id_ in self.model.children}
        assert [s.id for s in states] == list(self.model.children)
        assert {s.id: s.incarnation for s in states if s.incarnation is not None} == self.live
        assert self.core.count().active == len(self.live)
        assert self.core.restarts(self.now) == self.model.used(self.now)
        for state in states:
            if state.incarnation is not None:
                assert self.life_specs[state.id] is state.spec, "lives under an old spec"
            if not self.model.simple:
                assert state.spec == self.model.children[state.id]
            if state.status == "parked":
                assert state.reason is not None
        for id_ in set(self.lives) - {state.id for state in states}:
            self.lives[id_] = 0  # forgotten: what comes next under that id is another child

    @invariant()
    def nothing_outstanding_means_nothing_to_do(self) -> None:
        if self.starting or self.stopping or self.ends:
            return
        assert self.model.phase == "up"
        if any(generation in self.model.waiting.values() for generation, _ in self.retries):
            return
        assert not self.open_requests
        for state in self.core.which():
            assert state.status in ("running", "stopped", "parked")
            if state.status == "stopped":
                assert state.id in self.resting, "a child was lost"

    # -- what can happen

    @rule(data=st.data(), often=st.integers(1, 5))
    def something_happens(self, data: st.DataObject, often: int) -> None:
        """One rule for all: Hypothesis leaves out whole rules in a run, and here only the mixture is of interest."""
        for _ in range(often):
            possible: list[Callable[[st.DataObject], None]] = [self.somebody_asks] * 2
            possible += [self.children_end] * 4 if self.running() else []
            possible += [self.everything_is_answered] * 2 if self.starting or self.stopping else []
            possible += [self.a_start_is_answered] * 3 if self.starting else []
            possible += [self.a_stop_is_done] * 2 if self.stopping else []
            possible += [self.a_retry_falls_due] * 3 if self.retries else []
            possible += [self.an_event_comes_late] if self.past else []
            possible += [self.it_is_stopped] if len(self.past) > 15 and not self.ends else []
            data.draw(st.sampled_from(possible))(data)
            self.the_states_agree()
            self.nothing_outstanding_means_nothing_to_do()

    def a_start_is_answered(self, data: st.DataObject) -> None:
        assert self.starting is not None
        answer = data.draw(st.sampled_from(["up", "up", "up", "failed", "failed", "down", "ignored"]))
        id_, incarnation = self.starting.id, self.starting.incarnation
        if answer == "up":
            self.come_up()
            return
        self.starting = None
        self.gone(id_)
        if answer == "ignored":
            self.resting.add(id_)
            self.tell(ChildIgnored(id_, incarnation))
            return
        self.failures += 1
        if id_ in self.model.asked:
            self.resting.add(id_)
        kind = ChildDown if answer == "down" else ChildFailedToStart
        self.tell(kind(id_, incarnation, data.draw(REASONS), self.now))

    def a_stop_is_done(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(sorted(self.stopping))), data.draw(REASONS))

    def children_end(self, data: st.DataObject) -> None:
        self.now += data.draw(st.sampled_from([0.0, 1.0, 4.0, 5.0]))
        for reason in data.draw(st.lists(REASONS, min_size=1, max_size=3)):
            if not self.running():
                return
            id_ = data.draw(st.sampled_from(self.running()))
            incarnation = self.live[id_]
            self.gone(id_)
            self.failures += 1
            if self.model.children[id_].restart == "transient" and isinstance(reason, Normal | Shutdown):
                self.resting.add(id_)
            self.tell(ChildDown(id_, incarnation, reason, self.now))

    def a_retry_falls_due(self, data: st.DataObject) -> None:
        generation, delay = self.retries.pop(data.draw(st.integers(0, len(self.retries) - 1)))
        self.now += delay
        self.model.retry_due(generation, self.now)
        self.past.append(RetryDue(generation, self.now))
        self.hand_over(self.past[-1])

    def everything_is_answered(self, _: object = None) -> None:
        for _ in range(200):
            if self.stopping:
                self.finish(next(iter(self.stopping)), Shutdown())
            elif self.starting is not None:
                self.come_up()
            else:
                return
            self.the_states_agree()
        raise AssertionError("the core does not come to rest")

    def an_event_comes_late(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.past))
        if isinstance(event, ChildUp) and self.live.get(event.id) == event.incarnation:
            return  # still the one
        before = self.core.which(), self.core.history
        assert self.core.handle(event) == []
        assert (self.core.which(), self.core.history) == before

    def somebody_asks(self, data: st.DataObject) -> None:
        kinds = [AddChild, StartInstance, TerminateChild, RestartChild, DeleteChild]
        kinds += [Change] * self.theme.changes
        if self.core.spec.strategy == "simple_one_for_one":
            kinds += [StartInstance] * 4
        kind = data.draw(st.sampled_from(kinds))
        if kind is AddChild:
            request: Request = AddChild(data.draw(specs(self.theme, data.draw(st.sampled_from(IDS)))))
        elif kind is StartInstance:
            request = StartInstance((), data.draw(st.sampled_from([None, None, "x", "y"])))
        elif kind is Change:
            request = Change(data.draw(self.changes()))
            self.note_change(request.spec)
        else:
            ids = [*self.model.children, *IDS, "a:1", "a:2", "a:x"]
            ids += 4 * [*self.model.parked, *self.model.failed, *self.model.waiting]  # where it matters most
            request = kind(data.draw(st.sampled_from(sorted(ids))))
        self.ask(request)

    def it_is_stopped(self, _: st.DataObject) -> None:
        self.model.stop()
        self.hand_over(Stop(Shutdown()))

    def teardown(self) -> None:
        """Answer whatever is outstanding: the core must come to rest, and then to its end."""
        if not hasattr(self, "core"):
            return
        self.everything_is_answered()
        for _ in range(100):
            self.nothing_outstanding_means_nothing_to_do()
            if not self.retries:
                break
            generation, delay = self.retries.pop(0)
            self.now += delay + 10.0
            self.model.retry_due(generation, self.now)
            self.hand_over(RetryDue(generation, self.now))
            self.everything_is_answered()
        assert not self.retries
        self.model.stop()
        self.hand_over(Stop(Shutdown()))
        self.everything_is_answered()
        assert len(self.ends) == 1
        assert not self.live
        assert not self.open_requests

    # -- helpers

    def ask(self, request: Request) -> None:
        self.model.request(request)
        self.hand_over(request)

    def changes(self) -> st.SearchStrategy[Supervisor]:
        kinds: tuple[Strategy, ...] = get_args(Strategy)
        same = tuple(kind for kind in kinds if (kind == "simple_one_for_one") == self.model.simple)
        fitting = revisions(self.theme, self.model, same)
        return st.one_of(fitting, fitting, fitting, fitting, supervisors(self.theme))

    def note_change(self, spec: Supervisor) -> None:
        """What is added is not started; and who turned from temporary to another kind may have two lives, or none."""
        if self.model.phase not in ("booting", "up") or self.model.simple != (spec.strategy == "simple_one_for_one"):
            return
        known = {id_: old.restart for id_, old in self.model.children.items()}
        for id_, restart in known.items() if self.model.simple else [(each.id, each.restart) for each in spec.children]:
            new = spec.children[0].restart if self.model.simple else restart
            if id_ not in known or known[id_] == "temporary" != new:
                self.resting.add(id_)
            if new == "temporary":
                self.lives[id_] = 0

    def running(self) -> list[str]:
        starting = self.starting.id if self.starting is not None else None
        return sorted(id_ for id_ in self.live if id_ != starting and id_ not in self.stopping)

    def come_up(self) -> None:
        assert self.starting is not None
        id_, incarnation = self.starting.id, self.starting.incarnation
        self.starting = None
        self.resting.discard(id_)
        self.tell(ChildUp(id_, incarnation, self.now))

    def finish(self, id_: str, reason: ExitReason) -> None:
        if self.starting is not None and self.starting.id == id_:
            self.starting = None
        incarnation = self.live[id_]
        self.gone(id_)
        self.tell(ChildDown(id_, incarnation, reason, self.now))

    def gone(self, id_: str) -> None:
        del self.live[id_]
        self.stopping.pop(id_, None)

    def tell(self, event: ChildUp | ChildIgnored | ChildFailedToStart | ChildDown) -> None:
        match event:
            case ChildUp():
                self.model.came_up(event.id, self.now)
            case ChildIgnored():
                self.model.ended(event.id, None, self.now)
            case _:
                self.model.ended(event.id, event.reason, self.now)
        self.past.append(event)
        self.hand_over(event)


TestCoreMachine = CoreMachine.TestCase
TestCoreMachine.settings = settings(max_examples=max(200, settings().max_examples), stateful_step_count=25)


# -- what Hypothesis finds too seldom, step by step: that the core and the rules agree on it


def running(children: list[ChildSpec], strategy: Strategy, **options: Any) -> CoreMachine:
    machine = CoreMachine()
    machine.start_with(Supervisor(children, strategy=strategy, **options), Random(0))
    machine.everything_is_answered()
    return machine


def crash(machine: CoreMachine, id_: str) -> None:
    incarnation = machine.live[id_]
    machine.gone(id_)
    machine.failures += 1
    machine.tell(ChildDown(id_, incarnation, Crashed(ValueError("boom")), machine.now))


def fail_to_start(machine: CoreMachine) -> None:
    assert machine.starting is not None
    start, machine.starting = machine.starting, None
    machine.gone(start.id)
    machine.failures += 1
    machine.tell(ChildFailedToStart(start.id, start.incarnation, Crashed(ValueError("boom")), machine.now))


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_doomed_start_holds_up_its_group_and_not_who_is_terminated(strategy: Strategy) -> None:
    machine = running([child(nothing, id=id_) for id_ in "abc"], strategy)
    machine.ask(AddChild(child(nothing, id="d")))
    crash(machine, "a")
    assert not machine.stopping
    machine.ask(TerminateChild("b"))
    assert list(machine.stopping) == ["b"]
    machine.teardown()


@pytest.mark.parametrize("mode", ["never", "any_significant"])
def test_who_became_temporary_is_not_tried_again(mode: AutoShutdown) -> None:
    machine = running([child(nothing, id="a")], "one_for_one")
    crash(machine, "a")
    new = child(nothing, id="a", restart="temporary", significant=mode != "never")
    machine.ask(Change(Supervisor([new], auto_shutdown=mode)))
    fail_to_start(machine)
    assert not machine.retries
    assert bool(machine.ends) == (mode != "never")
