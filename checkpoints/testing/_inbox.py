"""Conformance: one reader at a time handles the entries of an inbox in order, each effect once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from checkpoints import BadEntry, Checkpoints, EntryGone, ForeignLease, InboxReader, NameLeases, NotHead, UnknownEntry
from checkpoints import Inbox as AnyInbox
from otp.engines import Engine, LeaseLost

from ._dead import Burying
from ._posting import Posting
from ._stage import COIN, NEW_COIN, NOTE, PATIENCE, Boom, Coin, NewCoin, Note

MakeEngine = Callable[[], Engine[Any]]


class InboxConformance(Posting, Burying):
    """Inboxes: all of it."""

    async def test_fault_33_replay_goes_on_from_the_first_unprocessed(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            for value in range(5):
                await self.inbox(pod).post(Coin(value))
            reader = await self.reader(pod, 1)
            for value in range(2):
                entry = await self.head(reader)
                assert entry.payload == Coin(value)
                await reader.mark(entry)
            await self.head(reader)  # handled, but not marked: then it all goes down
        async with self.pods(make_engine) as (pod,):
            await self.inbox(pod).post(Coin(5))  # arrives behind what is replayed
            reader = await self.reader(pod, 2)
            seen = [(entry.payload.value, entry.seq, entry.attempt) for entry in await self.drain(reader)]
            assert seen == [(2, 3, 2), (3, 4, 1), (4, 5, 1), (5, 6, 1)]
            assert await reader.next() is None

    async def test_the_head_stays_until_it_is_finished_and_costs_one_attempt(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            await self.inbox(one).post(Coin(1))
            await self.inbox(one).post(Coin(2))
            for epoch, pod in ((1, one), (2, one), (3, two)):
                reader = await self.reader(pod, epoch)
                for _ in range(3):
                    entry = await self.head(reader)
                    assert (entry.payload, entry.attempt) == (Coin(1), epoch)
                assert (await self.head(await self.reader(pod, epoch))).attempt == epoch

    async def test_a_failure_counts_and_is_told(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.inbox(pod).post(Coin(1))
            reader = await self.reader(pod, 1)
            for attempt in range(1, 15):
                entry = await self.head(reader)
                assert entry.attempt == attempt
                assert await reader.failed(entry, Boom(f"try {attempt}")) == attempt
            entry = await self.head(reader)
            assert entry.stored.error.endswith("Boom: try 14\n")
            history = [failure.attempt for failure in entry.stored.history]
            assert history[0] == 1
            assert history[-1] == 14
            assert len(history) <= 10

    async def test_what_is_given_back_costs_nothing(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.inbox(pod).post(Coin(1))
            for epoch in range(1, 4):
                reader = await self.reader(pod, epoch)
                entry = await self.head(reader)
                assert (entry.attempt, entry.stored.releases) == (1, epoch - 1)
                await reader.release(entry)
                await reader.release(entry)  # once given back is given back

    async def test_giving_the_lease_back_takes_back_the_attempt_that_is_open_and_no_other(
        self, make_engine: MakeEngine
    ) -> None:
        """A handler that does not obey its cancellation keeps the lease from nobody, and costs the entry nothing."""
        async with self.pods(make_engine) as (pod,):
            names = NameLeases(pod)
            inbox = self.inbox(pod)
            await inbox.post(Coin(1))
            await self.inbox(pod, "other").post(Coin(1))
            other_lease = await names.acquire("other")
            assert other_lease is not None
            await self.head(await self.inbox(pod, "other").open(other_lease))

            async def lead(*, fail: bool) -> tuple[int, int]:
                lease = await names.acquire("ledger")
                assert lease is not None
                reader = await inbox.open(lease)
                entry = await self.head(reader)
                if fail:
                    await reader.failed(entry, Boom("counts"))
                assert await names.release(lease)
                return entry.attempt, entry.stored.releases

            assert await lead(fail=False) == (1, 0)
            assert await lead(fail=True) == (1, 1)
            assert await lead(fail=False) == (2, 1)  # the failure stayed
            assert await lead(fail=False) == (2, 2)
            other = await self.head(await self.reader(pod, 2, "other"))
            assert (other.attempt, other.stored.releases) == (2, 0)  # an heir without a release: it counts

    async def test_a_mark_counts_once_and_in_order(self, make_engine: MakeEngine) -> None:
        self.need("transactions")
        async with self.pods(make_engine) as (pod,):
            for value in range(3):
                await self.inbox(pod).post(Coin(value))
            reader = await self.reader(pod, 1)
            first = await self.head(reader)
            await reader.mark(first)
            second = await self.head(reader)
            with pytest.raises(Boom):
                async with second.commit():
                    raise Boom
            with pytest.raises(EntryGone, match="entry 1 of inbox 'ledger'"):
                await reader.mark(first)
            for act in (reader.failed(first, "late"), reader.release(first), reader.bury(first, reason="late")):
                with pytest.raises(EntryGone):
                    await act
            async with pod.transaction() as tx:
                await reader.mark(second, tx=tx)
            assert (await self.head(reader)).payload == Coin(2)

    async def test_nothing_is_finished_before_the_head(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            for value in range(2):
                await self.inbox(pod).post(Coin(value))
            reader = await self.reader(pod, 1)
            first = await self.head(reader)
            await reader.mark(first)
            second = await self.head(reader)
            await self.inbox(pod, "other").post(Coin(0))
            await self.inbox(pod, "other").post(Coin(0))
            other = await self.reader(pod, 1, "other")
            for act in (
                other.mark(second),
                other.failed(second, "x"),
                other.release(second),
                other.bury(second, reason="x"),
            ):
                with pytest.raises(NotHead, match=r"entry 2 .* before entry 1"):
                    await act
            assert (await self.inbox(pod, "other").statistics()).depth == 2

    @pytest.mark.parametrize("heir", ["the same process", "another"])
    async def test_fault_10_22_an_older_reader_is_fenced_out(self, make_engine: MakeEngine, heir: str) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            for value in range(2):
                await self.inbox(one).post(Coin(value))
            old = await self.reader(one, 1)
            entry = await self.head(old)
            new = await self.reader(one if heir == "the same process" else two, 2)
            for act in (
                old.next(),  # of what it has read already
                old.mark(entry),
                old.failed(entry, "late"),
                old.release(entry),
                old.bury(entry, reason="late"),
                old.next(),
            ):
                with pytest.raises(LeaseLost):
                    await act
            with pytest.raises(LeaseLost):
                await self.reader(one, 1)
            with pytest.raises(LeaseLost):
                # The same epoch, but somebody else's.
                await self.reader(two if heir == "the same process" else one, 2)
            again = await self.head(new)
            assert (again.payload, again.attempt, again.stored.error) == (Coin(0), 2, "")
            assert await self.inbox(two).dead.list() == []
            await new.mark(again)

    async def test_fault_10_22_a_fenced_commit_leaves_nothing(self, make_engine: MakeEngine) -> None:
        self.need("transactions")
        async with self.pods(make_engine, 2) as (one, two):
            await self.inbox(one).post(Coin(1))
            old = await self.reader(one, 1)
            entry = await self.head(old)
            await self.reader(two, 2)
            with pytest.raises(LeaseLost):
                async with entry.commit() as tx:
                    await self.inbox(one, "effects").post(Coin(1), tx=tx)
            with pytest.raises(LeaseLost):  # noqa: PT012  the whole transaction is meant
                async with one.transaction() as tx:  # also when the effect comes first
                    await self.inbox(one, "effects").post(Coin(1), tx=tx)
                    await old.mark(entry, tx=tx)
            assert (await self.inbox(two, "effects").statistics()).posted == 0
            assert (await self.inbox(two).statistics()).depth == 1

    async def test_a_commit_is_the_mark_and_the_effects_together(self, make_engine: MakeEngine) -> None:
        self.need("transactions")
        async with self.pods(make_engine) as (pod,):
            effects = self.inbox(pod, "effects")
            for value in range(3):
                await self.inbox(pod).post(Coin(value))
            reader = await self.reader(pod, 1)
            checkpoint = await Checkpoints(pod).open("ledger", reader.lease)
            first = await self.head(reader)
            with pytest.raises(Boom):  # noqa: PT012  the whole transaction is meant
                async with first.commit() as tx:
                    await effects.post(Coin(9), tx=tx)
                    await checkpoint.save("total", 9, tx=tx)
                    raise Boom
            assert not first.processed
            assert (await effects.statistics()).posted == 0
            total = 0
            while (entry := await reader.next()) is not None:
                total += entry.payload.value
                async with entry.commit() as tx:
                    await effects.post(entry.payload, tx=tx)
                    await checkpoint.save("total", total, tx=tx)
                assert entry.processed
                with pytest.raises(EntryGone):
                    async with entry.commit() as tx:
                        await effects.post(entry.payload, tx=tx)
            assert ((await effects.statistics()).posted, checkpoint.load("total", int)) == (3, 3)

    async def test_a_lost_lease_stops_the_reader(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.inbox(pod).post(Coin(1))
            reader = await self.reader(pod, 1)
            entry = await self.head(reader)
            reader.lease.lose("the test says so")
            with trio.fail_after(PATIENCE):
                await reader.wait()
            for act in (reader.next(), reader.mark(entry)):
                with pytest.raises(LeaseLost, match="the test says so"):
                    await act
            if self.transactions:
                with pytest.raises(LeaseLost):
                    async with entry.commit():
                        pass
            assert (await self.inbox(pod).statistics()).depth == 1

    async def test_waiting_ends_with_a_post_or_with_the_lease(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            reader = await self.reader(one, 1)
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(reader.wait)
                    await self.inbox(two).post(Coin(1))
                await reader.wait()  # there it is
                await reader.mark(await self.head(reader))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(reader.wait)
                    await self.reader(two, 2)
            with pytest.raises(LeaseLost):
                await reader.next()

    async def test_fault_24_an_unknown_version_waits_for_who_knows_it(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            await self.inbox(one).post(Coin(1))
            new_inbox = AnyInbox(two, "ledger", [NEW_COIN])
            await new_inbox.post(NewCoin(2, "penny"))
            await self.inbox(one).post(Coin(3))
            old = await self.reader(one, 1)
            await old.mark(await self.head(old))
            with pytest.raises(UnknownEntry, match="'coin' version 2") as first:
                await old.next()
            assert not first.value.grace_over
            while True:  # it is the first meeting that counts, whoever asks later
                impatient = await self.inbox(one, unknown_grace=0.0).open(self.lease_of(one, 2))
                with pytest.raises(UnknownEntry) as later:
                    await impatient.next()
                if later.value.waited > 0:
                    break
                await trio.sleep(0.001)
            assert later.value.grace_over
            assert (later.value.entry.seq, later.value.entry.attempts) == (2, 0)
            new = await new_inbox.open(self.lease_of(two, 3))
            seen: list[tuple[object, int]] = []
            while (entry := await new.next()) is not None:
                seen.append((entry.payload, entry.attempt))
                await new.mark(entry)
            assert seen == [(NewCoin(2, "penny"), 1), (NewCoin(3, "groat"), 1)]

    async def test_fault_24_an_older_reader_is_fenced_out_of_what_it_does_not_know(
        self, make_engine: MakeEngine
    ) -> None:
        async with self.pods(make_engine) as (pod,):
            await AnyInbox(pod, "ledger", [NOTE]).post(Note("a"))
            old = await self.reader(pod, 1)
            with pytest.raises(UnknownEntry):
                await old.next()
            await self.reader(pod, 2)
            with pytest.raises(LeaseLost):
                await old.next()

    async def test_fault_21_a_damaged_payload_reaches_no_handler(self, make_engine: MakeEngine) -> None:
        self.need("damages")
        async with self.pods(make_engine) as (pod,):
            for value in range(2):
                await self.inbox(pod).post(Coin(value))
            await self.damage_entry(pod, "ledger", 1)
            reader = await self.reader(pod, 1)
            with pytest.raises(BadEntry):
                await reader.next()
            with pytest.raises(BadEntry, match="entry 1 of inbox 'ledger' cannot be read") as bad:
                await reader.next()
            await reader.bury(bad.value.entry, reason="damaged", error=bad.value)
            assert (await self.head(reader)).payload == Coin(1)
            (letter,) = await self.inbox(pod).dead.list()
            assert (letter.reason, letter.attempts) == ("damaged", 0)
            assert "checksum" in letter.error

    async def test_an_inbox_stays_with_its_lease(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.reader(pod, 1)
            with pytest.raises(ForeignLease, match="inbox 'ledger' belongs to the lease 'name:ledger'"):
                await self.inbox(pod).open(self.lease_of(pod, 2, "journal"))

    async def test_statistics_tell_what_is_there(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            inbox = self.inbox(pod, max_depth=5)
            empty = await inbox.statistics()
            assert (empty.depth, empty.posted, empty.head, empty.owner, empty.epoch) == (0, 0, None, None, 0)
            for value in range(3):
                await inbox.post(Coin(value))
            reader: InboxReader[Coin] = await self.reader(pod, 4)
            await reader.mark(await self.head(reader))
            await reader.bury(await self.head(reader), reason="because")
            found = await inbox.statistics()
            assert (found.depth, found.posted, found.head, found.dead, found.max_depth) == (1, 3, 3, 1, 5)
            assert (found.owner, found.epoch) == (pod.owner, 4)
            assert found.oldest_age >= 0

    async def test_a_topic_that_nobody_gave_is_unknown(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.inbox(pod).post(Coin(1))
            reader = await AnyInbox(pod, "ledger", [self.note]).open(self.lease_of(pod, 1))
            with pytest.raises(UnknownEntry, match="'coin'"):
                await reader.next()
            await (await AnyInbox(pod, "ledger", [self.note, COIN]).open(self.lease_of(pod, 2))).next()
