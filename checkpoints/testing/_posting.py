"""Conformance: what is posted is there, once, under a number that only grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from checkpoints import Inbox, InboxFull
from otp.engines import Engine

from ._reading import Reading
from ._stage import NOTE, PATIENCE, Boom, Coin, Note

MakeEngine = Callable[[], Engine[Any]]


class Posting(Reading):
    """The sender's side."""

    note = NOTE

    async def test_an_entry_comes_out_as_it_was_posted(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            inbox: Inbox[Any] = Inbox(pod, "ledger", [self.coin, self.note])
            posted = await inbox.post(Coin(7), id="order-1", sender="shop", headers={"trace": "abc"})
            assert (posted.seq, posted.id, posted.duplicate) == (1, "order-1", False)
            made = await inbox.post(Note("hello"))
            reader = await inbox.open(self.lease_of(pod, 1))
            entry = await reader.next()
            assert entry is not None
            assert (entry.payload, entry.seq, entry.id, entry.sender) == (Coin(7), 1, "order-1", "shop")
            assert dict(entry.stored.envelope.headers) == {"trace": "abc"}
            assert entry.attempt == 1
            await reader.mark(entry)
            entry = await reader.next()
            assert entry is not None
            assert (entry.payload, entry.id, entry.sender) == (Note("hello"), made.id, None)

    async def test_numbers_are_the_order_of_commits_without_gaps(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 3) as pods:
            given: list[tuple[int, int]] = []

            async def post_some(pod: Engine[Any], start: int) -> None:
                inbox = self.inbox(pod)
                given.extend([((await inbox.post(Coin(value))).seq, value) for value in range(start, start + 10)])

            async with trio.open_nursery() as nursery:
                for number, pod in enumerate(pods * 2):
                    nursery.start_soon(post_some, pod, number * 10)
            assert sorted(seq for seq, _ in given) == list(range(1, 61))
            reader = await self.reader(pods[0], 1)
            assert [(entry.seq, entry.payload.value) for entry in await self.drain(reader)] == sorted(given)

    async def test_the_counter_is_never_lowered(self, make_engine: MakeEngine) -> None:
        for epoch in (1, 2):
            async with self.pods(make_engine) as (pod,):
                reader = await self.reader(pod, epoch)
                assert (await self.inbox(pod).post(Coin(1))).seq == epoch
                await self.drain(reader)

    @pytest.mark.parametrize("state", ["waiting", "processed", "dead", "requeued"])
    async def test_fault_18_a_second_post_is_told_the_first_place(self, make_engine: MakeEngine, state: str) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.inbox(pod).post(Coin(0))
            await self.inbox(pod).post(Coin(1), id="order-1")
            if state != "waiting":
                reader = await self.reader(pod, 1)
                await reader.mark(await self.head(reader))
                entry = await self.head(reader)
                await (reader.mark(entry) if state == "processed" else reader.bury(entry, reason="because"))
            if state == "requeued":
                assert await self.inbox(pod).dead.requeue("order-1")
        async with self.pods(make_engine, 2) as pods:
            for _ in range(10):
                for pod in pods:
                    again = await self.inbox(pod).post(Coin(2), id="order-1")
                    assert (again.seq, again.duplicate) == (3 if state == "requeued" else 2, True)
            assert not (await self.inbox(pods[0], "other").post(Coin(1), id="order-1")).duplicate
            posted = (await self.inbox(pods[0]).statistics()).posted
            assert posted == (3 if state == "requeued" else 2)

    async def test_an_id_is_forgotten_some_time_after_its_entry(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            inbox = self.inbox(pod, dedup_window=0.1)
            await inbox.post(Coin(1), id="order-1")
            reader = await inbox.open(self.lease_of(pod, 1))
            before = pod.monotonic()
            await reader.mark(await self.head(reader))
            with trio.fail_after(PATIENCE):
                while (again := await inbox.post(Coin(2), id="order-1")).duplicate:
                    assert again.seq == 1
                    await trio.sleep(0.01)
            assert pod.monotonic() - before >= 0.1 - 0.01  # two clocks may differ by their grain
            assert again.seq == 2

    async def test_an_id_is_known_as_long_as_its_entry_is_there(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            inbox = self.inbox(pod, dedup_window=0.0)
            reader = await inbox.open(self.lease_of(pod, 1))
            for seq in range(1, 5):
                assert not (await inbox.post(Coin(1), id="order-1")).duplicate
                again = await inbox.post(Coin(1), id="order-1")
                assert (again.seq, again.duplicate) == (seq, True)
                await reader.mark(await self.head(reader))

    async def test_a_full_inbox_says_so(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            inbox = self.inbox(pod, max_depth=2)
            await inbox.post(Coin(1), id="a")
            await inbox.post(Coin(2))
            with pytest.raises(InboxFull, match="'ledger' is full: 2 unprocessed entries, the limit is 2") as full:
                await inbox.post(Coin(3), id="b")
            assert (full.value.inbox, full.value.depth, full.value.limit) == ("ledger", 2, 2)
            assert (await inbox.post(Coin(1), id="a")).duplicate  # that one is there
            reader = await self.reader(pod, 1)
            await reader.mark(await self.head(reader))
            posted = await inbox.post(Coin(3), id="b")
            assert (posted.seq, posted.duplicate) == (3, False)

    async def test_a_post_belongs_to_the_callers_transaction(self, make_engine: MakeEngine) -> None:
        self.need("transactions")
        async with self.pods(make_engine) as (pod,):
            inbox = self.inbox(pod, max_depth=3)
            with pytest.raises(Boom):  # noqa: PT012  the whole transaction is meant
                async with pod.transaction() as tx:
                    assert (await inbox.post(Coin(1), id="a", tx=tx)).seq == 1
                    assert (await inbox.post(Coin(1), id="a", tx=tx)).duplicate
                    raise Boom
            async with pod.transaction() as tx:
                assert not (await inbox.post(Coin(2), id="a", tx=tx)).duplicate
                await inbox.post(Coin(3), tx=tx)
                await inbox.post(Coin(4), tx=tx)
                with pytest.raises(InboxFull):
                    await inbox.post(Coin(5), tx=tx)
            entries = await self.drain(await self.reader(pod, 1))
            assert [(entry.seq, entry.payload.value) for entry in entries] == [(1, 2), (2, 3), (3, 4)]

    async def test_bad_arguments_are_refused(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            inbox: Any = self.inbox(pod)
            for wrong in ({"id": ""}, {"sender": "a\0b"}):
                with pytest.raises(ValueError, match=next(iter(wrong))):
                    await inbox.post(Coin(1), **wrong)
            with pytest.raises(TypeError, match="no topic"):
                await inbox.post("text")
            for option in ({"max_depth": 0}, {"dedup_window": -1}, {"unknown_grace": float("nan")}):
                wrong_options: dict[str, Any] = dict(option)
                with pytest.raises(ValueError, match=next(iter(option))):
                    self.inbox(pod, **wrong_options)
            assert (await inbox.statistics()).posted == 0
