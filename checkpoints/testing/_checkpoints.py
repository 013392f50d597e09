"""Conformance: steps are kept, in order, by one holder at a time, and what is damaged is not used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio

from checkpoints import Checkpoint, Checkpoints, ForeignLease, StepNotSaved, StepTooLarge
from otp.engines import BadPayload, Engine, Lease, LeaseLost, MemoryEngine, UnknownPayload

from .._backends import backends_for
from ._stage import COIN, NEW_COIN, PATIENCE, Boom, Coin, NewCoin, Stage

MakeEngine = Callable[[], Engine[Any]]


class CheckpointConformance(Stage):
    """Checkpoints."""

    async def start(self, engine: Engine[Any], epoch: int, key: str = "ledger", **options: Any) -> Checkpoint:
        """Open the checkpoint as the incarnation `epoch` of a worker of this engine."""
        return await Checkpoints(engine, **options).open(key, self.lease_of(engine, epoch, key))

    async def test_steps_are_there_for_the_next_incarnation(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            first = await self.start(pod, 1)
            assert (dict(first.saved), first.latest(), first.damaged) == ({}, None, ())
            await first.save("read", {"words": [1, 2]})
            await first.save("measure", Coin(7))
            await first.save("notify", None)
        async with self.pods(make_engine) as (pod,):
            again = await self.start(pod, 2)
            for checkpoint in (first, again):
                assert list(checkpoint.saved) == [("read", 0), ("measure", 0), ("notify", 0)]
                assert checkpoint.load("read", dict[str, list[int]]) == {"words": [1, 2]}
                assert checkpoint.load("measure", Coin) == Coin(7)
                assert checkpoint.load("notify", type(None)) is None
            last = again.latest()
            assert last is not None
            assert (last.step, last.occurrence, last.epoch) == ("notify", 0, 1)

    async def test_a_step_passed_several_times_is_kept_for_each(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            checkpoint = await self.start(pod, 1)
            for occurrence in range(3):
                await checkpoint.save("page", occurrence * 10, occurrence=occurrence)
            again = await self.start(pod, 2)
            assert [again.load("page", int, occurrence=number) for number in range(3)] == [0, 10, 20]

    async def test_a_cursor_overwrites_itself_and_is_the_latest(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            checkpoint = await self.start(pod, 1)
            for position in range(5):
                await checkpoint.save("scan", position)
            await checkpoint.save("sort", "done")
            await checkpoint.save("scan", 99)
            for each in (checkpoint, await self.start(pod, 2)):
                assert list(each.saved) == [("sort", 0), ("scan", 0)]
                assert each.load("scan", int) == 99

    async def test_what_was_not_saved_is_an_error_or_the_default(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            checkpoint = await self.start(pod, 1)
            with pytest.raises(StepNotSaved, match="'ledger' has no step 'read', occurrence 0"):
                checkpoint.load("read", int)
            assert checkpoint.load("read", int, default=None) is None
            await checkpoint.save("read", 1)
            with pytest.raises(BadPayload):
                checkpoint.load("read", str)

    async def test_topics_bring_versions(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            old = await self.start(pod, 1, topics=[COIN])
            await old.save("mint", Coin(5))
            new = await self.start(pod, 2, topics=[NEW_COIN])
            assert new.load("mint", NewCoin) == NewCoin(5, "groat")
            await new.save("mint", NewCoin(6, "penny"))
            back = await self.start(pod, 3, topics=[COIN])
            with pytest.raises(UnknownPayload):
                back.load("mint", Coin)

    @pytest.mark.parametrize("heir", ["the same process", "another"])
    async def test_fault_10_22_opening_fences_out_the_older_holder(self, make_engine: MakeEngine, heir: str) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            old = await self.start(one, 1)
            await old.save("read", 1)
            new = await self.start(one if heir == "the same process" else two, 2)
            discard = backends_for(one).checkpoints(one).discard("ledger", old.lease.token, 0)
            for act in (old.save("read", 2), old.save("other", 2), old.clear(), discard):
                with pytest.raises(LeaseLost):
                    await act
            view = await Checkpoints(two).peek("ledger")
            assert view is not None
            assert [(saved.step, saved.envelope.body) for saved in view.steps] == [("read", b"1")]
            assert (view.epoch, view.closed) == (2, False)
            await new.save("read", 3)

    async def test_an_older_lease_cannot_open(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            new = await self.start(two, 5)
            with pytest.raises(LeaseLost):
                await self.start(one, 4)
            with pytest.raises(LeaseLost):
                await self.start(one, 5)  # the same epoch, but somebody else's
            await (await self.start(two, 5)).save("read", 1)
            await new.save("read", 2)

    async def test_a_lost_lease_writes_nothing(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            checkpoint = await self.start(pod, 1)
            checkpoint.lease.lose("the test says so")
            with pytest.raises(LeaseLost, match="the test says so"):
                await checkpoint.save("read", 1)
            with pytest.raises(LeaseLost):
                await Checkpoints(pod).open("ledger", checkpoint.lease)
            assert not checkpoint.saved

    @pytest.mark.parametrize("first", ["zombie", "heir"])
    async def test_fault_26_of_two_executors_of_a_step_one_writes(self, make_engine: MakeEngine, first: str) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            opened, written = trio.Event(), trio.Event()
            results: dict[str, object] = {}
            lease = self.lease_of(two, 2)

            async def run(who: str, checkpoint: Checkpoint) -> None:
                await opened.wait()  # both have done the work of the step, and neither has written
                if who != first:
                    await written.wait()
                try:
                    await checkpoint.save("step", who)
                    results[who] = "saved"
                except LeaseLost:
                    results[who] = "lost"
                finally:
                    written.set()

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run, "zombie", await self.start(one, 1))
                    nursery.start_soon(run, "heir", await Checkpoints(two).open("ledger", lease))
                    opened.set()
            assert results == {"zombie": "lost", "heir": "saved"}
            assert (await self.start(two, 3)).load("step", str) == "heir"

    async def test_what_is_cleared_is_gone(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            checkpoint = await self.start(pod, 1)
            await checkpoint.save("read", 1)
            await checkpoint.clear()
            assert (dict(checkpoint.saved), checkpoint.latest()) == ({}, None)
            view = await Checkpoints(pod).peek("ledger")
            assert view is not None
            assert (view.closed, view.epoch, view.steps) == (True, 1, ())
            await checkpoint.save("write", 2)  # the same holder begins its next piece of work
            assert list((await self.start(pod, 2)).saved) == [("write", 0)]

    async def test_a_late_zombie_does_not_bring_back_what_is_cleared(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            await (await self.start(two, 2)).clear()
            with pytest.raises(LeaseLost):
                await self.start(one, 1)

    async def test_prune_forgets_what_was_closed_long_ago(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            for number in range(5):
                await (await self.start(pod, 1, f"job-{number}")).clear()
            kept, forgotten = Checkpoints(pod), Checkpoints(pod, keep_closed=0.0)
            assert await kept.prune() == 0
            again = await self.start(pod, 2, "job-0")  # it was closed and is in use again
            await again.save("read", 1)
            assert await forgotten.prune(limit=3) == 3
            assert await forgotten.prune() == 1
            assert await kept.peek("job-4") is None
            assert (await self.start(pod, 3, "job-0")).load("read", int) == 1

    async def test_clearing_forgets_a_little_each_time(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            for number in range(20):
                await (await self.start(pod, 1, f"job-{number}", keep_closed=0.0)).clear()
            store = Checkpoints(pod)
            assert sum([await store.peek(f"job-{number}") is not None for number in range(20)]) <= 2

    async def test_abandoned_ones_are_pruned_on_request(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await (await self.start(pod, 1)).save("read", 1)
            store = Checkpoints(pod)
            assert await store.prune(abandoned_for=3600.0) == 0
            assert await store.prune(abandoned_for=0.0) == 1
            assert await store.peek("ledger") is None

    async def test_a_key_stays_with_its_lease(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            store = Checkpoints(pod)
            await store.open("report", self.lease_of(pod, 1, "job-1", kind="queue"))
            with pytest.raises(ForeignLease, match="belongs to the lease 'queue:job-1'"):
                await store.open("report", self.lease_of(pod, 1, "job-2", kind="queue"))
            await store.open("report", self.lease_of(pod, 2, "job-1", kind="queue"))

    async def test_the_lease_may_come_from_another_engine(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,), MemoryEngine() as elsewhere:
            store = Checkpoints(pod)
            old = await store.open("job-1", self.lease_of(elsewhere, 1, "job-1", kind="queue"))
            new = await store.open("job-1", self.lease_of(elsewhere, 2, "job-1", kind="queue"))
            with pytest.raises(LeaseLost):
                await old.save("read", 1)
            await new.save("read", 2)

    async def test_too_large_a_step_is_refused(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            checkpoint = await self.start(pod, 1, max_bytes=100)
            await checkpoint.save("read", "x" * 98)  # and its quotes
            with pytest.raises(StepTooLarge, match="takes 101 bytes, the limit is 100"):
                await checkpoint.save("read", "x" * 99)
            assert (await self.start(pod, 2)).load("read", str) == "x" * 98

    async def test_a_save_belongs_to_the_callers_transaction(self, make_engine: MakeEngine) -> None:
        self.need("transactions")
        async with self.pods(make_engine) as (pod,):
            mine, other = await self.start(pod, 1), await self.start(pod, 1, "other")
            await mine.save("read", 1)
            with pytest.raises(Boom):  # noqa: PT012  the whole transaction is meant
                async with pod.transaction() as tx:
                    await mine.save("read", 2, tx=tx)
                    await other.save("read", 2, tx=tx)
                    assert not other.saved  # not before it is committed
                    await mine.clear(tx=tx)
                    raise Boom
            assert (mine.load("read", int), dict(other.saved)) == (1, {})
            async with pod.transaction() as tx:
                await other.save("read", 3, tx=tx)
                await mine.clear(tx=tx)
            assert (dict(mine.saved), other.load("read", int)) == ({}, 3)
            assert (await self.start(pod, 2, "other")).load("read", int) == 3

    async def test_fault_22_a_fenced_save_takes_its_transaction_along(self, make_engine: MakeEngine) -> None:
        self.need("transactions")
        async with self.pods(make_engine) as (pod,):
            mine, other = await self.start(pod, 1), await self.start(pod, 1, "other")
            await self.start(pod, 2)
            with pytest.raises(LeaseLost):  # noqa: PT012  the whole transaction is meant
                async with pod.transaction() as tx:
                    await other.save("effect", 1, tx=tx)
                    await mine.save("read", 1, tx=tx)
            view = await Checkpoints(pod).peek("other")
            assert view is not None
            assert view.steps == ()

    async def test_fault_25_a_damaged_step_is_reported_and_the_one_before_is_used(
        self, make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.need("damages")
        async with self.pods(make_engine) as (pod,):
            checkpoint = await self.start(pod, 1)
            for step in ("read", "parse", "count"):
                await checkpoint.save(step, f"{step} it")
            await self.damage_step(pod, "ledger", "parse")
            with caplog.at_level(logging.WARNING):
                again = await self.start(pod, 2)
            assert "step 'parse' (occurrence 0) is left out" in caplog.text
            last = again.latest()
            assert last is not None
            assert last.step == "read"
            assert [(damaged.step, "does not match" in damaged.reason) for damaged in again.damaged] == [
                ("parse", True),
                ("count", False),  # sound, but it rests on the damaged one
            ]
            await again.save("parse", "parse it again")
            third = await self.start(pod, 3)  # what rested on the damaged step has not come back beside the new one
            assert (list(third.saved), third.damaged) == ([("read", 0), ("parse", 0)], ())

    async def test_fault_25_peek_shows_what_is_sound_and_changes_nothing(self, make_engine: MakeEngine) -> None:
        self.need("damages")
        async with self.pods(make_engine) as (pod,):
            checkpoint = await self.start(pod, 1)
            await checkpoint.save("read", 1)
            await checkpoint.save("parse", 2)
            await self.damage_step(pod, "ledger", "parse")
            view = await Checkpoints(pod).peek("ledger")
            assert view is not None
            assert [saved.step for saved in view.steps] == ["read"]
            assert (view.owner, view.epoch, view.lease) == (pod.owner, 1, "name:ledger")
            assert len((await self.start(pod, 2)).damaged) == 1

    async def test_bad_arguments_are_refused(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            store = Checkpoints(pod)
            lease: Lease = self.lease_of(pod, 1)
            checkpoint: Any = await store.open("ledger", lease)
            for wrong in ("", "a\0b"):
                with pytest.raises(ValueError, match="step"):
                    await checkpoint.save(wrong, 1)
                with pytest.raises(ValueError, match="key"):
                    await store.open(wrong, lease)
            with pytest.raises(ValueError, match="occurrence"):
                await checkpoint.save("read", 1, occurrence=-1)
            with pytest.raises(TypeError, match="occurrence"):
                await checkpoint.save("read", 1, occurrence=True)
            with pytest.raises(ValueError, match="max_bytes"):
                Checkpoints(pod, max_bytes=0)
            with pytest.raises(ValueError, match="keep_closed"):
                Checkpoints(pod, keep_closed=float("inf"))
            assert await store.peek("ledger") is not None
            assert await store.peek("nothing") is None
