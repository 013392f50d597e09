"""The decisions of a rolling update: examples, and a model under random disturbance."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from examples.rolling_deploy.rollout import Create, Delete, Desired, Plan, Pod, ReplicaSet, reconcile


def pods(*kinds: str) -> list[Pod]:
    """Pods by words such as ``1a`` (revision 1, available), ``2r`` (ready), ``2`` (just started), ``1t``."""
    found = []
    for number, kind in enumerate(kinds):
        revision, state = int(kind[0]), kind[1:]
        found.append(
            Pod(
                f"p{number}",
                revision,
                number,
                ready=state in ("a", "r"),
                available=state == "a",
                terminating=state == "t",
            )
        )
    return found


def three(*, surge: int = 1, unavailable: int = 0, revision: int = 1) -> Desired:
    return Desired(3, surge, unavailable, revision)


def test_a_new_deployment_starts_all_its_pods():
    plan = reconcile(three(), [], [])
    assert plan == Plan((ReplicaSet(1, 3),), (Create(1),) * 3, complete=False)


def test_nothing_is_done_when_all_is_well():
    plan = reconcile(three(), [ReplicaSet(1, 3)], pods("1a", "1a", "1a"))
    assert plan == Plan((ReplicaSet(1, 3),), (), complete=True)


def test_ready_is_not_yet_complete():
    assert not reconcile(three(), [ReplicaSet(1, 3)], pods("1a", "1a", "1r")).complete


def test_a_rollout_surges_first_and_takes_an_old_pod_only_for_a_new_one_that_is_available():
    desired = three(revision=2)
    old = ReplicaSet(1, 3)
    plan = reconcile(desired, [old], pods("1a", "1a", "1a"))
    assert plan.actions == (Create(2),)
    for state in ("", "r"):
        waiting = reconcile(desired, plan.sets, pods("1a", "1a", "1a", "2" + state))
        assert waiting.actions == ()
    plan = reconcile(desired, plan.sets, pods("1a", "1a", "1a", "2a"))
    assert plan.actions == (Delete("p2"),)
    assert plan.sets == (ReplicaSet(1, 2), ReplicaSet(2, 1))


def test_the_replacement_starts_while_the_old_pod_drains():
    desired = three(revision=2)
    plan = reconcile(desired, [ReplicaSet(1, 2), ReplicaSet(2, 1)], pods("1a", "1a", "1t", "2a"))
    assert plan.actions == (Create(2),)


def test_without_surge_an_old_pod_goes_first():
    desired = three(surge=0, unavailable=1, revision=2)
    plan = reconcile(desired, [ReplicaSet(1, 3)], pods("1a", "1a", "1a"))
    assert plan.actions == (Delete("p2"),)


def test_old_pods_that_are_not_available_go_first():
    desired = three(surge=1, unavailable=1, revision=2)
    sets = [ReplicaSet(1, 3), ReplicaSet(2, 1)]
    plan = reconcile(desired, sets, pods("1a", "1", "1a", "2"))
    assert plan.actions == (Delete("p1"),)


def test_a_version_that_never_gets_available_stops_the_rollout():
    desired = three(surge=1, unavailable=1, revision=2)
    sets: tuple[ReplicaSet, ...] = (ReplicaSet(1, 3),)
    seen = pods("1a", "1a", "1a")
    for _ in range(20):
        plan = reconcile(desired, sets, seen)
        sets = plan.sets
        gone = {action.pod for action in plan.actions if isinstance(action, Delete)}
        seen = [pod for pod in seen if pod.name not in gone]
        seen += [
            Pod(f"n{len(seen)}-{i}", action.revision, 100 + i)
            for i, action in enumerate(plan.actions)
            if isinstance(action, Create)
        ]
    assert sum(pod.available for pod in seen) == 2
    assert len(seen) == 4


def test_a_deleted_pod_is_replaced_by_one_of_its_own_revision():
    desired = three(revision=2)
    plan = reconcile(desired, [ReplicaSet(1, 3), ReplicaSet(2, 1)], pods("1a", "1a", "1t", "2"))
    assert plan.actions == (Create(1),)


def test_a_rollback_in_the_middle():
    desired = three(revision=1)
    plan = reconcile(desired, [ReplicaSet(1, 2), ReplicaSet(2, 2)], pods("1a", "1a", "2a", "2"))
    assert plan.actions == (Delete("p3"),)  # the new pod that is not available


def test_scaling_to_nothing():
    plan = reconcile(Desired(0, 1, 0, 2), [ReplicaSet(1, 2), ReplicaSet(2, 1)], pods("1a", "1", "2a"))
    plan = reconcile(Desired(0, 1, 0, 2), plan.sets, pods("1a", "1", "2t"))
    assert {action.pod for action in plan.actions if isinstance(action, Delete)} == {"p0", "p1"}


class Rollouts(RuleBasedStateMachine):
    """A deployment whose pods come, fall over, go, and whose template changes at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.desired = Desired(1, 1, 0, 1)
        self.sets: tuple[ReplicaSet, ...] = ()
        self.pods: dict[str, Pod] = {}
        self.serial = 0
        self.allowed = 0

    @initialize(replicas=st.integers(1, 6), surge=st.integers(0, 4), unavailable=st.integers(0, 6), start=st.booleans())
    def begin(self, replicas: int, surge: int, unavailable: int, start: bool) -> None:
        self.desired = Desired(replicas, surge, unavailable if surge else max(1, unavailable), 1)
        if start:
            self.settle()

    # What happens to a deployment.

    @rule(data=st.data())
    def pod_changes(self, data: st.DataObject) -> None:
        if living := [pod for pod in self.pods.values() if not pod.terminating]:
            pod = data.draw(st.sampled_from(living))
            change = data.draw(st.sampled_from(["ready", "available", "unready", "crash", "delete"]))
            self.pods[pod.name] = {
                "ready": evolve(pod, ready=True),
                "available": evolve(pod, ready=True, available=True),
                "unready": evolve(pod, ready=False, available=False),
                "crash": evolve(pod, ready=False, available=False, restarts=pod.restarts + 1),
                "delete": evolve(pod, terminating=True, ready=False, available=False),
            }[change]

    @rule()
    def drained(self) -> None:
        self.pods = {name: pod for name, pod in self.pods.items() if not pod.terminating}

    @rule()
    def new_template(self) -> None:
        self.desired = evolve(self.desired, revision=1 + max(self.desired.revision, *self.revisions(), 1))

    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        if revisions := self.revisions():
            self.desired = evolve(self.desired, revision=data.draw(st.sampled_from(sorted(revisions))))

    @rule(replicas=st.integers(0, 6))
    def scale(self, replicas: int) -> None:
        self.desired = evolve(self.desired, replicas=replicas)

    @rule()
    def act(self) -> None:
        self.step()

    def revisions(self) -> set[int]:
        return {each.revision for each in self.sets}

    # The controller, and what it must never do.

    def step(self) -> Plan:
        desired = self.desired
        counted_before, available_before = self.counted(), self.available()
        plan = reconcile(desired, self.sets, self.pods.values())
        assert reconcile(desired, self.sets, self.pods.values()) == plan
        self.sets = plan.sets
        for action in plan.actions:
            if isinstance(action, Create):
                self.serial += 1
                name = f"p{self.serial}"
                self.pods[name] = Pod(name, action.revision, self.serial)
            else:
                assert not self.pods[action.pod].terminating
                self.pods[action.pod] = evolve(self.pods[action.pod], terminating=True, ready=False, available=False)
        # Lowering `replicas` lowers the ceiling under pods that are there, or owed to an older revision.
        self.allowed = max(desired.replicas + desired.max_surge, min(self.allowed, self.owed()))
        assert self.counted() <= max(self.allowed, counted_before)
        assert self.available() >= min(available_before, desired.replicas - desired.max_unavailable)
        return plan

    def owed(self) -> int:
        return sum(each.replicas for each in self.sets)

    def counted(self) -> int:
        return sum(not pod.terminating for pod in self.pods.values())

    def available(self) -> int:
        return sum(pod.available for pod in self.pods.values() if not pod.terminating)

    @invariant()
    def sets_are_sane(self) -> None:
        assert all(each.replicas >= 0 for each in self.sets)

    def settle(self) -> None:
        """Left in peace, with pods that work, the rollout ends."""
        for _ in range(100):
            if self.step().complete:
                break
            self.pods = {
                name: evolve(pod, ready=True, available=True) for name, pod in self.pods.items() if not pod.terminating
            }
        else:
            pytest.fail(f"no end: {self.desired}, {self.sets}, {list(self.pods.values())}")
        living = [pod for pod in self.pods.values() if not pod.terminating]
        assert len(living) == self.desired.replicas
        assert all(pod.revision == self.desired.revision and pod.available for pod in living)

    def teardown(self) -> None:
        self.settle()


TestRollouts = Rollouts.TestCase
