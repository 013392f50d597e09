"""What is the front's own business, the same for every engine: arguments, counts, failures on the way."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from attrs import frozen

from otp.engines import LeaseLost, MemoryEngine, SqliteEngine, StoreUnavailable, Topic
from queues import Done, Queue, Reject, Release, Retry, backend_for, register_backend


@frozen
class Work:
    number: int


@frozen
class Rest:
    hours: int


WORK = Topic("work", Work)
REST = Topic("rest", Rest)


@pytest.fixture(params=["memory", "sqlite"])
def engine(request, tmp_path):
    return MemoryEngine() if request.param == "memory" else SqliteEngine(tmp_path / "jobs.db", synchronous="normal")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_attempts": 0}, ValueError, "max_attempts must be at least 1, not 0"),
        ({"max_attempts": 2.5}, TypeError, "max_attempts must be an int"),
        ({"max_attempts": True}, TypeError, "max_attempts must be an int"),
        ({"unknown_grace": -1}, ValueError, "unknown_grace must be a finite number of seconds >= 0, not -1"),
        ({"unknown_grace": float("inf")}, ValueError, "unknown_grace must be a finite"),
        ({"dedup_window": "1h"}, TypeError, "dedup_window must be a number of seconds, not '1h'"),
        ({"name": ""}, ValueError, "name must be 1 to 200 printable characters"),
        ({"name": "a\nb"}, ValueError, "name must be 1 to 200 printable characters"),
        ({"name": 5}, TypeError, "name must be a str"),
        ({"topics": []}, ValueError, "topics must not be empty"),
        ({"topics": [WORK, WORK]}, ValueError, "given twice"),
        ({"prefetch": 3}, TypeError, "prefetch"),
    ],
)
def test_wrong_settings_are_refused_where_they_are_given(options, error, words):
    with pytest.raises(error, match=words):
        Queue(**{"engine": MemoryEngine(), "name": "q", "topics": [WORK], **options})


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Retry(-1), ValueError),
        (lambda: Retry(cast("Any", "soon")), TypeError),
        (lambda: Release(float("nan")), ValueError),
        (lambda: Reject(""), ValueError),
        (lambda: Reject(cast("Any", 7)), TypeError),
    ],
)
def test_impossible_outcomes_are_refused(make, error):
    with pytest.raises(error):
        make()


async def test_a_claim_of_nothing_is_refused(engine):
    async with engine:
        queue = Queue(engine, "q", [WORK])
        with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
            await queue.claim(0)
        with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
            await queue.dead.list(limit=0)


async def test_many_are_one_operation(engine):
    async with engine:
        queue = Queue(engine, "q", [WORK])

        async def writes(act):
            before = engine.statistics().writes
            result = await act
            assert engine.statistics().writes == before + 1
            return result

        await writes(queue.put_many([Work(number) for number in range(50)]))
        jobs = await writes(queue.claim(50, start=False))
        await writes(queue.start(jobs))
        await writes(queue.settle((job, Done()) for job in jobs[:25]))
        await writes(queue.settle((job, Release()) for job in jobs[25:]))


async def test_a_lease_is_counted_from_before_its_request(autojump_clock):
    async def keep_the_store_busy(store, *, task_status):
        async with store.transaction():
            task_status.started()
            await trio.sleep(3)

    async with MemoryEngine(lease=15.0) as engine, trio.open_nursery() as nursery:
        queue = Queue(engine, "q", [WORK])
        await queue.put(Work(1))
        await nursery.start(keep_the_store_busy, engine)
        asked = trio.current_time()
        (job,) = await queue.claim()
        assert trio.current_time() > asked
        assert job.lease.deadline == asked + 15.0


async def test_concurrent_finishes_share_their_commits(tmp_path):
    async with SqliteEngine(tmp_path / "jobs.db", synchronous="normal") as engine:
        queue = Queue(engine, "q", [WORK])
        await queue.put_many([Work(number) for number in range(100)])
        jobs = await queue.claim(100)
        before = engine.statistics().commits
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(queue.ack, job)
        assert engine.statistics().commits - before < 50


async def test_a_queue_of_several_topics_gives_each_job_its_type(engine):
    async with engine:
        queue = Queue(engine, "q", [WORK, REST])
        await queue.put(Work(1))
        await queue.put(Rest(8))
        assert [job.payload for job in await queue.claim(5)] == [Work(1), Rest(8)]


async def test_an_outage_while_burying_keeps_the_readable_jobs(engine, monkeypatch, caplog):
    async with engine:
        queue = Queue(engine, "q", [WORK])
        await queue.put(Work(1))
        await Queue(engine, "q", [Topic("work", Rest)]).put(Rest(8))  # the same name for something else

        async def fail(*_args, **_options):
            raise StoreUnavailable("gone for a moment")

        with monkeypatch.context() as patch:
            patch.setattr(queue._backend, "finish", fail)
            (job,) = await queue.claim(5)
        assert job.payload == Work(1)
        assert "left for later: gone for a moment" in caplog.text
        assert queue.counts.buried == 0
        assert engine.statistics().leases_held == 1  # the unreadable one is not renewed: others will find it
        await queue.ack(job)


async def test_garbage_is_buried_although_the_claim_is_cancelled(engine, monkeypatch):
    async with engine:
        queue = Queue(engine, "q", [WORK])
        await queue.put(Work(1))
        await Queue(engine, "q", [Topic("work", Rest)]).put(Rest(8))
        finish, jobs = queue._backend.finish, []
        with trio.CancelScope() as scope:

            async def cancel_and_finish(*args, **options):
                scope.cancel()
                return await finish(*args, **options)

            monkeypatch.setattr(queue._backend, "finish", cancel_and_finish)
            jobs = await queue.claim(5)
        assert [job.payload for job in jobs] == [Work(1)]
        assert len(await queue.dead.list()) == 1


async def test_a_refused_start_ends_the_handler_at_once(engine):
    async with engine:
        queue = Queue(engine, "q", [WORK])
        await queue.put(Work(1))
        (job,) = await queue.claim(start=False)
        await queue.release(job)
        with pytest.raises(LeaseLost):
            await queue.start(job)
        assert job.lease.lost


async def test_very_long_errors_are_shortened(engine):
    async with engine:
        queue = Queue(engine, "q", [WORK])
        await queue.put(Work(1))
        (job,) = await queue.claim()
        await queue.retry(job, delay=0, error="x" * 10_000_000)
        (job,) = await queue.claim()
        assert job.last_error is not None
        assert len(job.last_error) < 20_000
        assert "characters left out" in job.last_error


@pytest.mark.parametrize("text", ["caf\udce9.txt", "a\0b"])
async def test_no_error_text_keeps_an_outcome_from_being_written(engine, text):
    async with engine:
        queue = Queue(engine, "q", [WORK])
        await queue.put(Work(1))
        (job,) = await queue.claim()
        await queue.retry(job, delay=0, error=FileNotFoundError(f"{text}: not found"))
        (job,) = await queue.claim()
        assert job.last_error is not None
        assert "not found" in job.last_error
        await queue.reject(job, reason=text, error=ValueError(f"{text}: no value"))
        (letter,) = await queue.dead.list()
        assert letter.reason in ("caf\\udce9.txt", "a\\0b")
        assert "no value" in letter.error
        assert ["not found" in failure.error for failure in letter.history] == [True, False]


@pytest.mark.parametrize("headers", ['{"trace', '{"trace": 5}', "7"])
async def test_a_damaged_row_hinders_no_other_job(tmp_path, headers):
    async with SqliteEngine(tmp_path / "jobs.db", synchronous="normal") as engine:
        queue = Queue(engine, "q", [WORK])
        for number in (1, 2):
            await queue.put(Work(number), headers={"trace": "t"})

        def damage(c):
            c.execute("UPDATE hf_job SET headers = ? WHERE seq = 1", (headers,))
            c.execute("UPDATE hf_job SET history = '[{' WHERE seq = 2")

        await engine.write(damage)
        (job,) = await queue.claim(2)
        assert job.payload == Work(2)
        (letter,) = await queue.dead.list()
        assert "checksum" in letter.reason
        await queue.retry(job, delay=0, error="no way")
        (job,) = await queue.claim()
        await engine.write(damage)
        await queue.reject(job, reason="enough")
        assert [len(letter.history) for letter in await queue.dead.list()] == [1, 1]


def test_nobody_elses_payload_or_secret_is_shown(engine):
    assert repr(Queue(engine, "q", [WORK])).startswith("<Queue 'q' on ")


def test_a_backend_can_be_registered_once(monkeypatch):
    monkeypatch.setattr("queues._backend._BACKENDS", {})

    strange: Any = SimpleNamespace(kind="strange")
    factory: Any = lambda engine, name: (engine.kind, name)  # noqa: E731
    with pytest.raises(ValueError, match="no queue backend for engines of kind 'strange'"):
        backend_for(strange, "q")
    register_backend("strange", factory)
    assert cast("object", backend_for(strange, "q")) == ("strange", "q")
    with pytest.raises(ValueError, match="already"):
        register_backend("strange", factory)


def test_importing_queues_loads_no_engine():
    code = "import sys, queues; sys.exit(bool({'apsw', 'cattrs', 'checkpoints', 'queues._sqlite'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
