"""Conformance: what was given up lies aside, can be looked at, put back and thrown away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from checkpoints import InboxFull
from otp.engines import DeadLetter, Engine

from ._reading import Reading
from ._stage import Boom, Coin

MakeEngine = Callable[[], Engine[Any]]


class Burying(Reading):
    """Dead letters."""

    async def bury(self, pod: Engine[Any], epoch: int, count: int) -> list[str]:
        """Post so many entries and bury them; return their ids."""
        ids = [(await self.inbox(pod).post(Coin(value), id=f"order-{value}")).id for value in range(count)]
        reader = await self.reader(pod, epoch)
        for _ in ids:
            await reader.bury(await self.head(reader), reason="because")
        return ids

    async def test_fault_19_a_dead_letter_tells_its_story(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.inbox(pod).post(Coin(1), id="order-1", sender="shop", headers={"trace": "abc"})
            await self.inbox(pod).post(Coin(2))
            reader = await self.reader(pod, 3)
            for attempt in (1, 2):
                await reader.failed(await self.head(reader), Boom(f"try {attempt}"))
            await reader.bury(await self.head(reader), reason="failed 2 times")
            assert (await self.head(reader)).payload == Coin(2)  # the way is free
            letter = await self.inbox(pod).dead.show("order-1")
            assert letter is not None
            assert (letter.id, letter.kind, letter.source, letter.reason) == (
                "order-1",
                "inbox",
                "ledger",
                "failed 2 times",
            )
            assert (letter.attempts, letter.releases, letter.owner, letter.epoch) == (3, 0, pod.owner, 3)
            assert (letter.envelope.topic, letter.envelope.body) == ("coin", b'{"value":1}')
            assert dict(letter.envelope.headers) == {"trace": "abc"}
            assert letter.error.endswith("Boom: try 2\n")
            assert [failure.attempt for failure in letter.history] == [1, 2]
            assert 0 <= letter.first_at <= letter.last_at
            assert await self.inbox(pod).dead.list() == [letter]
            assert await self.inbox(pod, "other").dead.list() == []

    async def test_dead_letters_come_in_pages(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            ids = await self.bury(pod, 1, 7)
            dead = self.inbox(pod).dead
            seen: list[str] = []
            last: DeadLetter | None = None
            while page := await dead.list(limit=3, after=last):
                assert len(page) <= 3
                seen += [letter.id for letter in page]
                last = page[-1]
            assert sorted(seen) == ids

    async def test_a_requeued_entry_goes_to_the_end_under_its_old_id(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.bury(pod, 1, 1)
            inbox = self.inbox(pod)
            await inbox.post(Coin(50))
            assert await inbox.dead.requeue("order-0")
            assert not await inbox.dead.requeue("order-0")
            assert await inbox.dead.show("order-0") is None
            await inbox.post(Coin(51))
            entries = await self.drain(await self.reader(pod, 2))
            assert [(entry.payload.value, entry.seq, entry.attempt) for entry in entries] == [
                (50, 2, 1),
                (0, 3, 1),
                (51, 4, 1),
            ]
            assert entries[1].id == "order-0"

    async def test_all_can_be_requeued_or_a_selection(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.bury(pod, 1, 5)
            dead = self.inbox(pod).dead
            assert await dead.requeue_all(lambda letter: letter.id in ("order-1", "order-3")) == 2
            assert await dead.requeue_all() == 3
            assert await dead.list() == []

    async def test_a_full_inbox_takes_no_dead_letter_back(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.bury(pod, 1, 1)
            inbox = self.inbox(pod, max_depth=1)
            await inbox.post(Coin(50))
            with pytest.raises(InboxFull):
                await inbox.dead.requeue("order-0")
            assert await inbox.dead.show("order-0") is not None

    async def test_a_dropped_one_is_gone_and_its_id_is_known_for_the_window(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.bury(pod, 1, 2)
            inbox, forgetful = self.inbox(pod), self.inbox(pod, dedup_window=0.0)
            assert await inbox.dead.drop("order-0")
            assert not await inbox.dead.drop("order-0")
            assert (await inbox.post(Coin(0), id="order-0")).duplicate
            assert (await inbox.post(Coin(1), id="order-1")).duplicate
            assert await forgetful.dead.drop("order-1")
            assert not (await inbox.post(Coin(1), id="order-1")).duplicate

    async def test_any_text_of_an_error_can_be_kept(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            await self.inbox(pod).post(Coin(1), id="order-1")
            reader = await self.reader(pod, 1)
            await reader.failed(await self.head(reader), FileNotFoundError("caf\udce9\0: not found"))
            await reader.bury(await self.head(reader), reason="caf\udce9\0", error="caf\udce9\0: no value")
            (letter,) = await self.inbox(pod).dead.list()
            assert letter.reason == "caf\\udce9\\0"
            assert letter.error.endswith("no value")
            assert letter.history[0].error.endswith("not found\n")

    async def test_burying_and_requeueing_belong_to_the_callers_transaction(self, make_engine: MakeEngine) -> None:
        self.need("transactions")
        async with self.pods(make_engine) as (pod,):
            inbox, copies = self.inbox(pod), self.inbox(pod, "copies")
            await inbox.post(Coin(1), id="order-1")
            reader = await self.reader(pod, 1)
            entry = await self.head(reader)
            with pytest.raises(Boom):  # noqa: PT012  the whole transaction is meant
                async with pod.transaction() as tx:
                    await reader.bury(entry, reason="because", tx=tx)
                    await copies.post(entry.payload, tx=tx)
                    raise Boom
            assert (await self.head(reader)).attempt == 1
            async with pod.transaction() as tx:
                await reader.bury(entry, reason="because", tx=tx)
                await copies.post(entry.payload, tx=tx)
            assert await reader.next() is None
            async with pod.transaction() as tx:
                assert await inbox.dead.requeue("order-1", tx=tx)
            assert (await self.head(reader)).seq == 2
            assert (await copies.statistics()).posted == 1
