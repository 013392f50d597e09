"""What a claim costs, counted in steps of SQLite's virtual machine instead of seconds.

The statements run on a plain connection: what is counted is the queue's own work.
"""

import re
from typing import Any

import apsw
import pytest
from attrs import frozen

from otp.engines import Topic, Topics
from queues import Done, Finish, NewJob, Policy, _sqlite_claim, _sqlite_dead, _sqlite_jobs
from queues._sqlite_schema import MIGRATIONS


@frozen
class Work:
    number: int


@frozen
class Other:
    number: int


WORK = Topic("work", Work)
OTHER = Topic("other", Other)
POLICY = Policy(known=Topics([WORK]).versions, max_attempts=3, unknown_grace=300.0, dedup_window=3600.0)
GRAIN = 40  # of about 500 steps; where a seek happens to land costs a few more or less

FILL = """
INSERT INTO hf_job (
    id, queue, priority, due_at, created_at, topic, version, codec, body, checksum, state, aside_at, until, owner
)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
SELECT ?2 || i, 'q', ?3, ?4 + i * 1e-6, 0, ?5, 1, 'json', x'7b7d', 0, ?6, ?7, ?8, 'somebody' FROM n"""


@pytest.fixture
def db():
    connection = apsw.Connection(":memory:")
    for migration in MIGRATIONS:
        for statement in migration.statements:
            connection.execute(statement)
    yield connection
    connection.close()


def fill(db, count, prefix="r", *, priority=0, due_at=0.0, topic="work", state="ready", aside_at=None, until=None):
    db.execute(FILL, (count, prefix, priority, due_at, topic, state, aside_at, until))


def claim(db, limit=1, now=100.0):
    return _sqlite_claim.claim(db, "q", "job", "me", now, 15.0, limit, POLICY, start=True)


def steps(db, act):
    """Steps of the virtual machine."""
    count = 0

    def step():
        nonlocal count
        count += 1
        return False

    db.set_progress_handler(step, 1)
    try:
        act()
    finally:
        db.set_progress_handler(None)
    return count


def cycle(db):
    """What a consumer does for one job."""
    _sqlite_claim.next_event(db, "q", 100.0, POLICY)
    (job,) = claim(db).jobs
    assert _sqlite_jobs.finish(db, [Finish(token=job.token, outcome=Done())], 100.0, POLICY) == set()


SITUATIONS: dict[str, list[dict[str, Any]]] = {
    "many ready": [{}],
    "many delayed, before the ready one in priority": [{"priority": -1, "due_at": 1000.0}],
    "many delayed, of the same priority": [{"due_at": 1000.0}],
    "many running": [{"state": "running", "until": 1000.0}],
    "many set aside": [{"topic": "other", "state": "aside", "aside_at": 50.0}],
    "all of it": [
        {},
        {"priority": -1, "due_at": 1000.0},
        {"state": "running", "until": 1000.0},
        {"topic": "other", "state": "aside", "aside_at": 50.0},
    ],
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_claim_costs_the_same_however_many_jobs_there_are(db, situation):
    fill(db, 100, "due")
    cycle(db)  # the very first use of a statement costs a few steps more
    costs = []
    for size in (10, 50_000):
        for number, what in enumerate(SITUATIONS[situation]):
            fill(db, size, f"{size}-{number}-", **what)
        costs.append(steps(db, lambda: cycle(db)))
    assert costs[1] <= costs[0] + GRAIN


def test_finished_jobs_cost_nothing(db):
    fill(db, 10)
    cycle(db)
    before = steps(db, lambda: cycle(db))
    for _ in range(500):
        fill(db, 1, "x")
        cycle(db)
    assert steps(db, lambda: cycle(db)) <= before + GRAIN
    assert db.execute("SELECT count(*) FROM hf_job").fetchone() == (7,)


def test_dead_letters_cost_a_claim_nothing(db):
    fill(db, 10)
    cycle(db)
    before = steps(db, lambda: cycle(db))
    fill(db, 1000, "x")
    for (seq,) in db.execute("SELECT seq FROM hf_job WHERE id LIKE 'x%'").fetchall():
        _sqlite_dead.bury(db, seq, "broken", 1.0)
    assert steps(db, lambda: cycle(db)) <= before + GRAIN


def test_upkeep_is_bounded_and_goes_on_with_the_next_claim(db):
    fill(db, 250, state="running", until=50.0)
    assert [claim(db).rescued for _ in range(4)] == [100, 100, 50, 0]


def test_a_flock_of_unknown_jobs_is_moved_once(db):
    fill(db, 5000, topic="other")
    fill(db, 1, "known")
    claims = 0
    while not claim(db).jobs:
        claims += 1
        assert _sqlite_claim.next_event(db, "q", 100.0, POLICY) <= 0  # so nobody sleeps meanwhile
    assert claims < 10
    fill(db, 10, "more")
    assert claim(db).set_aside == 0


def test_old_dedup_ids_are_forgotten_as_new_ones_come(db):
    envelope = WORK.encode(Work(1))
    for number in range(300):
        job = NewJob(id=f"j{number}", envelope=envelope, dedup=f"d{number}", delay=0.0, priority=0)
        _sqlite_jobs.put(db, "q", [job], float(number))
        (claimed,) = claim(db, now=float(number)).jobs
        policy = Policy(known=POLICY.known, max_attempts=3, unknown_grace=300.0, dedup_window=10.0)
        _sqlite_jobs.finish(db, [Finish(token=claimed.token, outcome=Done())], float(number), policy)
    assert db.execute("SELECT count(*) FROM hf_job_dedup").fetchall()[0][0] <= 12


def statements():
    for module in (_sqlite_claim, _sqlite_jobs, _sqlite_dead):
        for name, sql in vars(module).items():
            if isinstance(sql, str) and re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)", sql):
                yield pytest.param(sql, id=f"{module.__name__.rpartition('.')[2]}.{name}")


def sql_parameters(sql):
    return max((int(number) for number in re.findall(r"\?(\d+)", sql)), default=0)


@pytest.mark.parametrize("sql", list(statements()))
def test_no_statement_scans_a_table(db, sql):
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql_parameters(sql)).fetchall()]
    for line in plan:
        if sql == _sqlite_jobs.RELEASE_ALL and line == "SCAN hf_job USING INDEX hf_job_running":
            continue  # once, at a forced exit: through all that is running, and that index has nothing else
        assert not re.match(r"SCAN (?!CONSTANT ROW|json_each)", line), (line, plan)
        assert "TEMP B-TREE" not in line, (line, plan)


def test_the_order_of_a_claim_comes_from_the_index(db):
    (line,) = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {_sqlite_claim.DUE}", [None] * 6).fetchall()]
    assert line == "SEARCH hf_job USING INDEX hf_job_ready (queue=? AND priority=? AND due_at>? AND due_at<?)"
