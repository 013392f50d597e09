"""The memory and the SQLite backend against a simple model: several owners, pods of several versions, virtual time.

All three are given the same operations with the same clock and must answer the same, always. The backends run some of
them in transactions that are rolled back, after which nothing may be different.
"""

import runpy
from pathlib import Path
from typing import Any

import apsw
from attrs import frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otp.engines import Envelope, MemoryTables, Token
from queues import (
    Done,
    Finish,
    NewJob,
    Policy,
    Reject,
    Release,
    Retry,
    _memory_claim,
    _memory_jobs,
    _sqlite_claim,
    _sqlite_dead,
    _sqlite_jobs,
)
from queues._memory_rows import Store
from queues._sqlite_schema import MIGRATIONS

Model = runpy.run_path(str(Path(__file__).with_name("model.py")))["Model"]

LEASE, GRACE, WINDOW, MAX_ATTEMPTS = 10.0, 25.0, 15.0, 3
KINDS = [("a", "json", 1), ("a", "json", 2), ("b", "json", 1), ("a", "other", 1)]
PODS = [{("a", "json"): (1, 1)}, {("a", "json"): (1, 2)}, {("a", "json"): (2, 2), ("b", "json"): (1, 1)}]
OWNERS = ["one", "two", "three"]
OUTCOMES = [
    Done(), Done(), Retry(0.0, error="oh"), Retry(7.0), Reject("bad"), Reject("worse", error="why"), Release(),
    Release(3.0),
]  # fmt: skip


def policy(pod):
    return Policy(known=PODS[pod], max_attempts=MAX_ATTEMPTS, unknown_grace=GRACE, dedup_window=WINDOW)


@frozen
class OnSqlite:
    c: apsw.Connection

    def put(self, job, now):
        return _sqlite_jobs.put(self.c, "q", [job], now)[0]

    def claim(self, owner, pod, limit, start, now):
        return _sqlite_claim.claim(self.c, "q", "job", owner, now, LEASE, limit, policy(pod), start=start)

    def start(self, token):
        return _sqlite_jobs.start(self.c, [token])

    def extend(self, token, now):
        return {token} - _sqlite_jobs.extend(self.c, [token], now + LEASE)

    def finish(self, finishes, now):
        return _sqlite_jobs.finish(self.c, finishes, now, policy(0))

    def requeue(self, job_id, now):
        return _sqlite_dead.requeue(self.c, "q", [job_id], now)

    def drop(self, job_id, now):
        return _sqlite_dead.drop(self.c, "q", [job_id], now, policy(0))

    def statistics(self, now):
        return _sqlite_jobs.statistics(self.c, "q", now)

    def letters(self):
        return _sqlite_dead.page(self.c, "q", 1000, None)

    def next_event(self, pod, now):
        return _sqlite_claim.next_event(self.c, "q", now, policy(pod))

    def rolled_back(self, act):
        self.c.execute("SAVEPOINT doomed")
        act(self)
        self.c.execute("ROLLBACK TO doomed")
        self.c.execute("RELEASE doomed")


@frozen
class InMemory:
    tables: MemoryTables

    @property
    def store(self):
        return Store(self.tables, "q")

    def put(self, job, now):
        return _memory_jobs.put(self.store, [job], now)[0]

    def claim(self, owner, pod, limit, start, now):
        return _memory_claim.claim(self.store, "job", owner, now, LEASE, limit, policy(pod), start=start)

    def start(self, token):
        return _memory_jobs.start(self.store, [token])

    def extend(self, token, now):
        return {token} - _memory_jobs.extend(self.tables, [token], now + LEASE)

    def finish(self, finishes, now):
        return _memory_jobs.finish(self.store, finishes, now, policy(0))

    def requeue(self, job_id, now):
        return _memory_jobs.requeue(self.store, [job_id], now)

    def drop(self, job_id, now):
        return _memory_jobs.drop(self.store, [job_id], now, policy(0))

    def statistics(self, now):
        return _memory_jobs.statistics(self.store, now)

    def letters(self):
        return _memory_jobs.page(self.store, 1000, None)

    def next_event(self, pod, now):
        return _memory_claim.next_event(self.store, now, policy(pod))

    def rolled_back(self, act):
        self.tables.commit()
        act(self)
        self.tables.undo(0)


class Queues(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.c = apsw.Connection(":memory:")
        for migration in MIGRATIONS:
            for statement in migration.statements:
                self.c.execute(statement)
        self.backends: list[Any] = [OnSqlite(self.c), InMemory(MemoryTables())]
        self.model = Model(LEASE)
        self.now = 0.0
        self.count = 0
        self.tokens = []

    def teardown(self):
        if hasattr(self, "c"):
            self.c.close()

    def both(self, act, doomed=False):
        """Let both backends do the same; they answer the same, also when it was undone once before."""
        for backend in self.backends:
            if doomed:
                backend.rolled_back(act)
        first, second = (act(backend) for backend in self.backends)
        assert first == second
        return first

    @rule(
        kind=st.sampled_from(KINDS),
        dedup=st.sampled_from([None, None, "x", "y"]),
        delay=st.sampled_from([0.0, 0.0, 5.0]),
        priority=st.sampled_from([0, 0, -1, 4]),
        doomed=st.booleans(),
    )
    def put(self, kind, dedup, delay, priority, doomed):
        self.count += 1
        topic, codec, version = kind
        envelope = Envelope(topic=topic, codec=codec, version=version, body=b"{}")
        job = NewJob(id=f"job{self.count:03}", envelope=envelope, dedup=dedup, delay=delay, priority=priority)
        result = self.both(lambda backend: backend.put(job, self.now), doomed)
        assert result.job_id == self.model.put(job.id, kind, dedup, delay, priority, self.now)
        assert result.duplicate == (result.job_id != job.id)

    @rule(
        owner=st.sampled_from(OWNERS),
        pod=st.integers(0, 2),
        limit=st.integers(1, 4),
        start=st.booleans(),
        doomed=st.booleans(),
    )
    def claim(self, owner, pod, limit, start, doomed):
        claimed = self.both(lambda backend: backend.claim(owner, pod, limit, start, self.now), doomed)
        known = [kind for kind in KINDS if policy(pod).knows(*kind)]
        shown = [(j.token.key, j.token.epoch, j.attempts, j.releases, j.last_error) for j in claimed.jobs]
        expected = self.model.claim(owner, known, GRACE, MAX_ATTEMPTS, limit, start, self.now)
        assert (shown, claimed.rescued, claimed.buried, claimed.set_aside) == expected
        self.tokens += [job.token for job in claimed.jobs]

    @precondition(lambda self: self.tokens)
    @rule(which=st.integers(0), back=st.integers(0, 5), outcome=st.sampled_from(OUTCOMES), doomed=st.booleans())
    def finish(self, which, back, outcome, doomed):
        token = self.pick(which, back)
        lost = self.both(lambda backend: backend.finish([Finish(token=token, outcome=outcome)], self.now), doomed)
        job = self.model.ours(token.key, token.owner, token.epoch)
        assert lost == (set() if job else {token})
        if job:
            self.model.finish(job, outcome, WINDOW, self.now)

    @precondition(lambda self: self.tokens)
    @rule(which=st.integers(0), back=st.integers(0, 5))
    def start(self, which, back):
        token = self.pick(which, back)
        lost = self.both(lambda backend: backend.start(token))
        job = self.model.ours(token.key, token.owner, token.epoch)
        assert lost == (set() if job else {token})
        if job:
            self.model.start(job)

    @precondition(lambda self: self.tokens)
    @rule(which=st.integers(0), back=st.integers(0, 5), doomed=st.booleans())
    def extend(self, which, back, doomed):
        token = self.pick(which, back)
        lost = self.both(lambda backend: backend.extend(token, self.now), doomed)
        job = self.model.ours(token.key, token.owner, token.epoch)
        assert lost == (set() if job else {token})
        if job:
            self.model.extend(job, self.now)

    @precondition(lambda self: self.tokens)
    @rule(which=st.integers(0))
    def forge(self, which):
        """Somebody else's owner or an epoch that was never given changes nothing."""
        token = self.tokens[which % len(self.tokens)]
        for forged in (
            Token(token.kind, token.key, "nobody", token.epoch),
            Token(token.kind, token.key, token.owner, token.epoch + 100),
        ):
            finish = Finish(token=forged, outcome=Done())
            assert self.both(lambda backend, finish=finish: backend.finish([finish], self.now)) == {forged}

    @precondition(lambda self: self.model.dead)
    @rule(which=st.integers(0), drop=st.booleans(), doomed=st.booleans())
    def requeue_or_drop(self, which, drop, doomed):
        job_id = self.model.dead[which % len(self.model.dead)]["id"]
        if drop:
            assert self.both(lambda backend: backend.drop(job_id, self.now), doomed) == 1
            assert self.model.drop(job_id, WINDOW, self.now) == 1
        else:
            assert self.both(lambda backend: backend.requeue(job_id, self.now), doomed) == 1
            assert self.model.requeue(job_id, self.now) == 1

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 11.0, 30.0]))
    def time_passes(self, seconds):
        self.now += seconds

    def pick(self, which, back):
        """Most often one of the last tokens; the others are nearly all stale."""
        if which % 3:
            return self.tokens[-1 - back % len(self.tokens)]
        return self.tokens[which % len(self.tokens)]

    @invariant()
    def all_is_as_the_model_says(self):
        if not hasattr(self, "model"):
            return
        statistics = self.both(lambda backend: backend.statistics(self.now))
        counts = (statistics.ready, statistics.delayed, statistics.running, statistics.set_aside, statistics.dead)
        assert counts == self.model.counts(self.now)
        letters = self.both(lambda backend: backend.letters())
        shown = {
            (letter.id, letter.attempts, letter.releases, letter.epoch, letter.error, letter.last_at,
             tuple((fail.attempt, fail.at, fail.owner, fail.error) for fail in letter.history))
            for letter in letters
        }  # fmt: skip
        assert shown == {
            (job["id"], job["attempts"], job["releases"], job["epoch"], job["error"] or "", job["died"],
             tuple(job["fails"]))
            for job in self.model.dead
        }  # fmt: skip
        for pod in range(len(PODS)):
            seconds = self.both(lambda backend, pod=pod: max(0.0, backend.next_event(pod, self.now)))
            known = [kind for kind in KINDS if policy(pod).knows(*kind)]
            assert min(seconds, 1e9) == self.model.next_event(known, GRACE, self.now)


TestQueues = Queues.TestCase
TestQueues.settings = settings(max_examples=60, stateful_step_count=50)
