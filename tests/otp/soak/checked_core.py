"""The core of every supervisor in the soak, held against the rules with everything that really happens to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp import _protocol as p
from otp._strategy import SupervisorCore
from tests.otp.rules import Rules

if TYPE_CHECKING:
    from random import Random

    from otp._spec import Supervisor
    from tests.otp.soak.world import World

EXCEEDED = ("give up", "park", "drop")
CHARGED = ("restart", "retry", *EXCEEDED)


class CheckedCore(SupervisorCore):
    """Decides as the real one does, since it is the real one; but each decision is compared with the model's.

    The model has its own tests, with simulated children. Here its events come from real tasks through the shell: so
    the shell's promises are checked as well, that each start and each stop is answered once and for the right child.
    """

    def __init__(self, world: World, spec: Supervisor, *, path: str, rng: Random | None = None) -> None:
        super().__init__(spec, path=path, rng=rng)
        self.world = world
        self.path = path
        self.rules = Rules(spec)
        self.live: dict[str, int] = {}  # by id: the incarnation that was ordered and has not been reported as ended
        self.coming_up: tuple[str, int] | None = None
        self.charges: list[float] = []
        self.plain = True  # no budgets and no changes so far: then there is one window, and all restarts are in it
        self.stopped: dict[tuple[str, int], bool] = {}  # whom it told to stop, and whether it was stopping itself
        world.claim(not world.lives(path), f"{path} has two supervisors at once")
        world.cores[path] = self

    def handle(self, event: p.Event) -> list[p.Action]:
        self._check_promise(event)
        self._tell_rules(event)
        actions = super().handle(event)
        self._compare(event, actions)
        for action in actions:
            self._check(action)
        return actions

    def restarts(self, now: float) -> int:
        """Whoever looks at a window forgets what is past; when its period changes it matters that both look."""
        used = super().restarts(now)
        self._same(now, "restarts", used, self.rules.used(now))
        return used

    # -- what the shell reports

    def _check_promise(self, event: p.Event) -> None:
        match event:
            case p.ChildUp():
                which = (event.id, event.incarnation)
                self._claim(which == self.coming_up, f"{event} of a child that does not start")
                self.coming_up = None
            case p.ChildIgnored() | p.ChildFailedToStart() | p.ChildDown():
                which = (event.id, event.incarnation)
                started = which == self.coming_up
                known = self.live.pop(event.id, None) == event.incarnation
                self._claim(known and started != isinstance(event, p.ChildDown), f"{event} out of turn")
                self._claim(not self.world.lives(f"{self.path}/{event.id}"), f"{event}, but it lives")
                if started:
                    self.coming_up = None

    def _tell_rules(self, event: p.Event) -> None:
        match event:
            case p.Start():
                self.rules.start()
            case p.Stop():
                self.rules.stop()
            case p.ChildUp():
                self.rules.came_up(event.id, event.now)
            case p.ChildIgnored():
                self.rules.ended(event.id, None, 0.0)
            case p.ChildFailedToStart() | p.ChildDown():
                self.rules.ended(event.id, event.reason, event.now)
            case p.RetryDue():
                self.rules.retry_due(event.generation, event.now)
            case p.Change():
                self.plain = False
                self.rules.request(event)
            case _:
                self.rules.request(event)
        self.rules.follow()

    # -- what the core makes of it

    def _compare(self, event: p.Event, actions: list[p.Action]) -> None:
        rules = self.rules
        orders = {
            ("start" if isinstance(action, p.StartChild) else "stop", action.id)
            for action in actions
            if isinstance(action, p.StartChild | p.StopChild)
        }
        replies = {action.request: type(action.error) for action in actions if isinstance(action, p.Reply)}
        retries = [action.generation for action in actions if isinstance(action, p.ScheduleRetry)]
        ends = [type(action) for action in actions if isinstance(action, p.StartFailed | p.GiveUp | p.Stopped)]
        self._same(event, "orders", orders, rules.orders)
        self._same(event, "replies", replies, rules.replies)
        self._same(event, "retries", retries, [generation for generation, _ in rules.retries])
        self._same(event, "started", p.Started() in actions, rules.started)
        self._same(event, "the end", ends, [rules.outcome] if rules.phase == "over" else [])
        self._same(event, "children", [state.id for state in self.which()], list(rules.children))
        statuses = {state.id: state.status for state in self.which()}
        self._same(event, "statuses", statuses, {id_: rules.status(id_) for id_ in rules.children})
        rules.orders, rules.replies, rules.retries, rules.started = set(), {}, [], False

    def _check(self, action: p.Action) -> None:
        match action:
            case p.StartChild():
                self._claim(self.coming_up is None, f"{action.id} starts while {self.coming_up} does")
                self._claim(action.id not in self.live, f"{action.id} starts twice")
                self.coming_up = (action.id, action.incarnation)
                self.plain = self.plain and action.spec.budget is None
                self.live[action.id] = action.incarnation
            case p.StopChild():
                self._claim(self.live.get(action.id) == action.incarnation, f"the wrong {action.id} stops")
                self.stopped[action.id, action.incarnation] = self._state.phase == "ending"
            case p.RenewSpec():
                self._claim(
                    self.live.get(action.id) == action.incarnation, f"the spec of the wrong {action.id} is renewed"
                )
            case p.Note():
                if action.decision.verdict in CHARGED:
                    self._check_window(action.decision)
                self.restarts(action.decision.time)
            case p.StartFailed() | p.GiveUp() | p.Stopped():
                self._claim(not self.live, f"it ends, but {sorted(self.live)} live")
            case _:
                pass

    def _check_window(self, decision: p.Decision) -> None:
        """Count again, from all restarts that there ever were."""
        self._same(decision, "too many", decision.verdict in EXCEEDED, decision.used > decision.limit)
        self.charges.append(decision.time)
        if self.plain:
            used = sum(decision.time - charge <= self.spec.period for charge in self.charges)
            self._same(decision, "restarts used", decision.used, used)

    def _same(self, event: object, what: str, got: Any, expected: Any) -> None:
        if got != expected:  # (putting the text together costs more than all the rest)
            self._claim(holds=False, text=f"{event}: {what} should be {expected}, not {got}")

    def _claim(self, holds: object, text: str) -> None:
        self.world.claim(holds, f"{self.path} ({self.spec.strategy}): {text}")
