"""A cancel at any moment: withdrawn before it began, otherwise the result arrives. Nothing is claimed unseen."""

import random
import sys
from collections import Counter

import pytest
import trio

from otp.engines import MemoryEngine
from tests.engines.support import add_items, claim, note, notes, sqlite

ROUNDS = 400


async def test_a_storm_of_cancels_leaves_nothing_leased_but_unseen(tmp_path):
    seed = random.randrange(sys.maxsize)
    print(f"seed {seed}")  # noqa: T201
    rng = random.Random(seed)
    async with sqlite(tmp_path) as engine:
        await add_items(engine, 3000)
        seen: list[str] = []
        cancelled = 0

        async def one(delay: float) -> None:
            nonlocal cancelled
            with trio.move_on_after(delay) as scope:
                leases = await claim(engine, 3)
                seen.extend(lease.token.key for lease in leases)  # before any checkpoint
                await trio.lowlevel.checkpoint()
            cancelled += scope.cancelled_caught

        # Alone and in crowds, since the moment of the commit lies elsewhere.
        for _ in range(ROUNDS // 2):
            await one(rng.uniform(0, 0.0015))
        for _ in range(ROUNDS // 20):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(one, rng.uniform(0, 0.004))
        leased = await engine.read(lambda c: [str(k) for (k,) in c.execute("SELECT id FROM item WHERE epoch > 0")])
        print(f"{cancelled} of {ROUNDS} cancelled, {len(seen)} seen, {len(set(leased) - set(seen))} unseen")  # noqa: T201
        assert 10 < cancelled < ROUNDS
        assert Counter(leased) == Counter(seen)
        assert engine.statistics().leases_held == len(seen)


async def test_a_storm_of_cancels_in_transactions(tmp_path):
    rng = random.Random(7)
    async with sqlite(tmp_path) as engine:
        committed: list[str] = []
        for number in range(150):
            text = str(number)
            with trio.move_on_after(rng.uniform(0, 0.004)):
                async with engine.transaction() as tx:
                    tx.on_end(lambda done, text=text: committed.append(text) if done else None)  # type: ignore[misc]
                    await engine.write(note(text), tx=tx)
                    await trio.lowlevel.checkpoint()
                    await engine.write(note(text + "+"), tx=tx)
        found = await notes(engine)
        assert found == [part for text in committed for part in (text, text + "+")]
        assert 0 < len(committed) < 150


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_cancelled_before_it_began_it_never_runs(tmp_path, kind):
    async with MemoryEngine() if kind == "memory" else sqlite(tmp_path) as engine:
        ran: list[int] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            await engine.write(lambda _: ran.append(1))
        assert scope.cancelled_caught
        # Waiting behind somebody's transaction counts as not begun, too.
        async with engine.transaction(), trio.open_nursery() as nursery:

            async def late() -> None:
                await engine.write(lambda _: ran.append(2))

            nursery.start_soon(late)
            await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
        await engine.write(lambda _: None)
        assert ran == []
