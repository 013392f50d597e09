"""The audit: it holds for a run as it should be, and each kind of damage makes it fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from examples.rolling_deploy.audit import Expectation, audit
from examples.rolling_deploy.events import Event, Kind
from examples.rolling_deploy.report import in_words

STEPS = ("read", "tokenize", "parse", "compare-1", "summarise")


class Story:
    """A run told step by step; time goes on by one second with each event."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[Event] = []
        self.published: list[str] = []
        self.totals = {"tokens": 0}
        self.truth = {"tokens": 0}
        self.effects: dict[str, int] = {}
        self.dead: list[str] = []

    def tell(self, kind: Kind, pod: str = "", job: str = "", step: str = "", /, at: float | None = None, **more: Any):
        self.now += 1
        attempt, epoch = more.pop("attempt", 0), more.pop("epoch", 0)
        mono = self.now if at is None else at
        self.events.append(Event(kind, 1e9 + mono, mono, pod, job, step, attempt, epoch, more))

    def publish(self, *jobs: str) -> None:
        for job in jobs:
            self.published.append(job)
            self.truth["tokens"] += 10
            self.tell(Kind.JOB_PUBLISHED, "", job)

    def pod(self, name: str) -> None:
        self.tell(Kind.POD_STARTED, name)
        self.tell(Kind.POD_READY, name)

    def end(self, name: str, code: int = 0) -> None:
        self.tell(Kind.SIGTERM, name)
        self.tell(Kind.POD_EXIT, name, code=code)

    def claim(self, job: str, pod: str, epoch: int = 1, attempt: int = 1) -> None:
        self.tell(Kind.JOB_CLAIMED, pod, job, epoch=epoch, attempt=attempt)

    def run(self, job: str, pod: str, steps: tuple[str, ...], epoch: int = 1) -> None:
        for step in steps:
            self.tell(Kind.STEP_STARTED, pod, job, step, epoch=epoch)
            self.tell(Kind.STEP_RUN, pod, job, step, epoch=epoch)

    def finish(self, job: str, pod: str, epoch: int = 1) -> None:
        self.tell(Kind.JOB_FINISHED, pod, job, epoch=epoch)
        self.apply(job, pod)

    def apply(self, job: str, pod: str) -> None:
        self.tell(Kind.ENTRY_APPLIED, pod, job)
        self.effects[job] = self.effects.get(job, 0) + 1
        self.totals["tokens"] += 10

    def release(self, job: str, pod: str, epoch: int = 1) -> None:
        self.tell(Kind.JOB_RELEASED, pod, job, epoch=epoch)

    def resume(self, job: str, pod: str, epoch: int, attempt: int = 1, step: str = "parse") -> None:
        self.claim(job, pod, epoch, attempt)
        self.tell(Kind.JOB_RESUMED, pod, job, step, epoch=epoch)

    def judge(self, *, resumed: int = 0, **options: Any):
        return audit(
            self.published,
            reversed(self.events),
            self.totals,
            self.truth,
            self.effects,
            self.dead,
            expect=Expectation(resumed),
            **options,
        )


def deploy() -> Story:
    """Job ``a`` is interrupted by a rollout and goes on; ``b`` is not."""
    story = Story()
    story.publish("a", "b")
    story.pod("old")
    story.claim("a", "old")
    story.run("a", "old", STEPS[:2])
    story.pod("new")
    story.tell(Kind.SIGTERM, "old")
    story.release("a", "old")
    story.resume("a", "new", 2)
    story.tell(Kind.POD_EXIT, "old", code=0)
    story.run("a", "new", STEPS[2:], 2)
    story.finish("a", "new", 2)
    story.claim("b", "new")
    story.run("b", "new", STEPS)
    story.finish("b", "new")
    story.end("new")
    return story


def crash() -> Story:
    """Job ``a`` is in the midst of a step when its pod is killed."""
    story = Story()
    story.publish("a")
    story.pod("one")
    story.claim("a", "one")
    story.run("a", "one", STEPS[:2])
    story.tell(Kind.STEP_STARTED, "one", "a", "parse", epoch=1)
    story.tell(Kind.FAULT, "one", kind="kill")
    story.tell(Kind.POD_EXIT, "one", code=-9)
    story.pod("one")
    story.resume("a", "one", 2, 2)
    story.run("a", "one", STEPS[2:], 2)
    story.finish("a", "one", 2)
    story.end("one")
    return story


def problem(story: Story, **options: Any) -> str:
    report = story.judge(**options)
    assert not report.holds
    return "\n".join(report.problems)


def test_a_rollout_without_damage_holds():
    report = deploy().judge(resumed=1, seconds=12.3456, seed=7)
    assert report.problems == ()
    assert report.holds
    assert (report.published, report.completed, report.lost, report.dead) == (2, 2, 0, 0)
    assert (report.duplicate_effects, report.totals_equal) == (0, True)
    assert (report.jobs_resumed, report.steps_run, report.steps_repeated, report.steps_redone) == (1, 10, 0, 0)
    assert (report.attempts_burnt_by_deploy, report.releases, report.leases_lost) == (0, 1, 0)
    assert (report.pods_started, report.pods_killed_after_grace) == (2, 0)
    assert report.drain_ms == (4000, 1000)
    assert report.handover_ms == (1000,)
    assert report.exit_codes == {"old": (0,), "new": (0,)}
    assert (report.seconds, report.seed) == (12.346, 7)


def test_the_report_is_json_with_the_figures_that_were_promised():
    report = json.loads(json.dumps(deploy().judge(resumed=1).to_dict()))
    promised = """published completed lost dead duplicate_effects totals_equal jobs_resumed steps_run
        steps_repeated attempts_burnt_by_deploy releases pods_started pods_killed_after_grace drain_ms
        handover_ms exit_codes seconds seed"""
    assert set(promised.split()) <= set(report)
    assert report["drain_ms"] == [4000, 1000]


def test_a_kill_repeats_one_step_and_costs_an_attempt_that_the_deploy_is_not_charged_with():
    report = crash().judge(resumed=1)
    assert report.problems == ()
    assert (report.steps_run, report.steps_repeated, report.steps_redone) == (5, 1, 0)
    assert report.attempts_burnt_by_deploy == 0
    assert report.exit_codes == {"one": (-9, 0)}
    assert report.faults == {"kill": 1}
    assert report.drain_ms == (1000,)


def test_a_lost_job():
    story = deploy()
    story.publish("c")
    story.truth["tokens"] -= 10
    assert problem(story) == "1 job lost: c"
    assert story.judge().lost == 1


def test_a_dead_letter_is_not_lost_but_does_not_hold():
    story = deploy()
    story.publish("c")
    story.truth["tokens"] -= 10
    story.dead.append("c")
    assert problem(story) == "1 job among the dead letters: c"
    assert (story.judge().lost, story.judge().dead) == (0, 1)


def test_a_job_counted_twice():
    story = deploy()
    story.apply("a", "new")
    said = problem(story)
    assert "1 effect too many: a" in said
    assert "tokens 30 instead of 20" in said
    report = story.judge()
    assert (report.duplicate_effects, report.totals_equal) == (1, False)


def test_two_effects_of_which_the_store_remembers_one():
    story = deploy()
    story.tell(Kind.ENTRY_APPLIED, "old", "a")
    assert "1 effect too many: a" in problem(story)


def test_totals_that_lost_an_update():
    story = deploy()
    story.totals["tokens"] -= 10
    assert problem(story) == "the totals differ from the truth: tokens 10 instead of 20"


def test_a_figure_that_is_missing():
    story = deploy()
    story.truth["names"] = 3
    assert "names None instead of 3" in problem(story)


def test_an_effect_of_a_job_that_nobody_published():
    story = deploy()
    story.effects["ghost"] = 1
    assert problem(story) == "1 job counted that nobody published: ghost"


def test_saved_steps_that_run_again():
    story = crash()
    story.events = [event for event in story.events if event.kind not in (Kind.JOB_RESUMED, Kind.JOB_FINISHED)]
    story.run("a", "one", STEPS[:2], 2)
    report = story.judge()
    assert (report.steps_redone, report.jobs_resumed, report.holds) == (2, 0, False)
    assert "2 steps ran again although the result had been saved" in report.problems
    assert "a repeated 3 steps, but was interrupted 1 time" in report.problems


def test_a_step_begun_again_for_no_reason():
    story = deploy()
    story.tell(Kind.STEP_STARTED, "new", "b", "read", epoch=1)
    assert problem(story) == "b repeated 1 step, but was interrupted 0 times"


def test_an_attempt_burnt_by_the_deploy():
    story = deploy()
    story.events = [
        Event(e.kind, e.wall, e.mono, e.pod, e.job, e.step, 2, e.epoch, e.detail)
        if e.kind is Kind.JOB_CLAIMED and e.epoch == 2
        else e
        for e in story.events
    ]
    assert problem(story) == "the deploy burnt 1 attempt"
    assert story.judge().attempts_burnt_by_deploy == 1


def test_an_attempt_burnt_by_the_deploy_on_the_way_to_the_dead_letters():
    story = deploy()
    story.publish("c")
    story.pod("late")
    story.claim("c", "late")
    story.dead.append("c")
    story.end("late")
    assert story.judge().attempts_burnt_by_deploy == 1


def test_a_fault_of_an_earlier_container_of_the_pod_does_not_excuse_the_later_one():
    story = crash()
    story.publish("b")
    story.pod("one")
    story.claim("b", "one")
    story.end("one")
    story.pod("two")
    story.claim("b", "two", epoch=2, attempt=2)
    story.run("b", "two", STEPS, 2)
    story.finish("b", "two", 2)
    story.end("two")
    assert story.judge().attempts_burnt_by_deploy == 1


def test_too_few_resumed():
    assert problem(deploy(), resumed=3).startswith("1 job resumed from a checkpoint; at least 3")


def test_a_checkpoint_that_was_found_but_not_used_is_no_resumption():
    story = Story()
    story.publish("a")
    story.pod("one")
    story.resume("a", "one", 1)
    story.run("a", "one", STEPS)
    story.finish("a", "one")
    story.end("one")
    assert story.judge().jobs_resumed == 0


def test_a_pod_killed_after_its_grace():
    story = deploy()
    story.pod("slow")
    story.tell(Kind.SIGTERM, "slow")
    story.tell(Kind.GRACE_EXPIRED, "slow")
    story.tell(Kind.POD_EXIT, "slow", code=-9)
    assert problem(story) == "slow was killed after its grace period"
    assert story.judge().pods_killed_after_grace == 1


def test_a_paused_pod_may_be_killed_after_its_grace():
    story = deploy()
    story.pod("paused")
    story.tell(Kind.FAULT, "paused", kind="pause")
    story.tell(Kind.SIGTERM, "paused")
    story.tell(Kind.GRACE_EXPIRED, "paused")
    story.tell(Kind.POD_EXIT, "paused", code=-9)
    assert story.judge().holds
    assert story.judge().pods_killed_after_grace == 1


def test_a_pod_that_fell_over_by_itself():
    story = deploy()
    story.pod("weak")
    story.tell(Kind.POD_EXIT, "weak", code=1)
    assert problem(story) == "weak ended by itself, with exit code 1"


@pytest.mark.parametrize(("code", "fine"), [(0, True), (75, True), (1, False), (-15, False)])
def test_the_exit_code_of_a_drain(code, fine):
    story = deploy()
    story.pod("last")
    story.end("last", code)
    assert story.judge().holds is fine


def test_sigterm_before_the_pod_could_handle_it_is_no_matter():
    story = deploy()
    story.tell(Kind.POD_STARTED, "young")
    story.end("young", -15)
    assert story.judge().holds


def test_a_step_cut_at_the_drain_deadline_may_run_again():
    story = Story()
    story.publish("a")
    story.pod("old")
    story.claim("a", "old")
    story.tell(Kind.STEP_STARTED, "old", "a", "read", epoch=1)
    story.tell(Kind.SIGTERM, "old")
    story.release("a", "old")
    story.tell(Kind.POD_EXIT, "old", code=75)
    story.pod("new")
    story.claim("a", "new", 2)
    story.run("a", "new", STEPS, 2)
    story.finish("a", "new", 2)
    story.end("new")
    report = story.judge()
    assert (report.holds, report.steps_repeated) == (True, 1)


def test_a_release_at_a_step_boundary_excuses_no_repeated_step():
    story = deploy()
    story.tell(Kind.STEP_STARTED, "new", "a", "parse", epoch=2)
    report = story.judge()
    assert report.problems == ("a repeated 1 step, but was interrupted 0 times",)


def test_a_pod_that_gave_back_at_the_last_moment_excuses_one_repeated_step():
    story = Story()
    story.publish("a")
    story.pod("old")
    story.claim("a", "old")
    story.tell(Kind.STEP_STARTED, "old", "a", "read", epoch=1)
    story.end("old", 75)  # without a word of the job
    story.pod("new")
    story.claim("a", "new", 2)
    story.run("a", "new", STEPS, 2)
    story.finish("a", "new", 2)
    story.end("new")
    report = story.judge()
    assert (report.problems, report.steps_repeated) == ((), 1)


def test_a_run_that_was_cut_off_does_not_hold():
    assert deploy().judge(stopped_after=300.0).problems == ("the run was stopped after 300 s, before all was done",)


def test_jobs_that_were_left_to_newer_pods_are_counted():
    story = deploy()
    story.tell(Kind.JOB_SET_ASIDE, "old", jobs=3)
    story.tell(Kind.JOB_SET_ASIDE, "old", jobs=1)
    report = story.judge()
    assert (report.holds, report.set_aside) == (True, 4)
    assert "4 jobs of the newer schema met pods that left them to newer pods." in in_words(report)


def test_hand_overs_of_the_name():
    story = deploy()
    story.tell(Kind.OWNER_RELEASED, "old", at=3.0, epoch=1)
    story.tell(Kind.OWNER_ACQUIRED, "new", at=3.004, epoch=2)
    assert story.judge().owner_handover_ms == (4,)
    assert story.judge().handover_ms == (1000, 4)
    story.tell(Kind.OWNER_ACQUIRED, "other", at=5.0, epoch=3)
    story.tell(Kind.OWNER_RELEASED, "new", at=6.0, epoch=2)
    story.tell(Kind.OWNER_RELEASED, "other", at=7.0, epoch=3)
    story.tell(Kind.OWNER_ACQUIRED, "old", at=7.002, epoch=4)
    assert story.judge().owner_handover_ms == (4, 2), "a zombie hands over nothing"


def test_a_run_in_which_nothing_happened_shows_nothing():
    assert "nothing was published" in problem(Story())


def test_the_audit_in_words():
    text = "\n".join(in_words(deploy().judge(resumed=1, seconds=61.04, seed=3)))
    assert text.startswith("The audit holds.\n2 jobs published, 2 completed, 0 lost, 0 dead;")
    assert "0 duplicate effects; the totals equal the truth." in text
    assert "1 job went on from a checkpoint" in text
    assert "61.0 s, seed 3." in text
    story = deploy()
    story.publish(*(f"j{number}" for number in range(8)))
    text = "\n".join(in_words(story.judge()))
    assert text.startswith("The audit does NOT hold.\n  - 8 jobs lost: j0, j1, j2 and 5 more\n")
