"""Random histories of several owners of one name, with zombies, held against a simple model."""

from __future__ import annotations

import itertools
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from otp.engines import Engine, MemoryEngine, MemoryStore, SqliteEngine
from tests.checkpoints.model import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

# As often as it takes for histories to get somewhere: work, and then trouble.
WORK = ["acquire", "open_inbox", "open_checkpoint", "post", "next", "next", "commit", "mark", "save"]
TROUBLE = ["takeover", "takeover", "die", "sleep", "release", "fail", "give_back", "bury", "requeue", "drop", "clear"]
Command = tuple[str, int, int]
COMMANDS = st.lists(
    st.tuples(st.sampled_from(WORK + TROUBLE), st.integers(0, 5), st.integers(0, 50)), min_size=5, max_size=80
)
# What a pod does first is always the same; that need not be found by chance.
START: list[Command] = [("acquire", 0, 0), ("open_inbox", 0, 0), ("open_checkpoint", 0, 0), ("post", 0, 1)]


async def _play(make: Callable[[], Engine[Any]], name: str, commands: list[Command], *, timed: bool) -> None:
    async with AsyncExitStack() as stack:
        runner = Runner([await stack.enter_async_context(make()) for _ in range(3)], name, timed=timed)
        for command in START + commands:
            await runner.run(command)
        # In the end they are all dead, and somebody sound takes over and finishes it: nothing is lost.
        for number in range(len(runner.incarnations)):
            await runner.run(("die", number, 0))
        await runner.run(("sleep", 10, 0))
        runner.join(await stack.enter_async_context(make()))
        before = len(runner.incarnations)
        await runner.run(("acquire", len(runner.engines) - 1, 0))
        assert len(runner.incarnations) == before + 1
        await runner.run(("open_inbox", 0, 0))
        while runner.model.pending:
            await runner.run(("next", 0, 0))
            await runner.run(("commit", 0, 0))


@given(COMMANDS)
@settings(max_examples=300)
def test_fault_27_any_history_in_memory_and_virtual_time(commands: list[Command]) -> None:
    store = MemoryStore()

    async def main() -> None:
        await _play(lambda: MemoryEngine(store=store, lease=1.0), "ledger", commands, timed=True)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[str, str]]:
    """One file for all examples, and a name for each."""
    logging.getLogger("otp.engines").setLevel(logging.ERROR)
    path = str(tmp_path_factory.mktemp("model") / "store.db")
    numbers = itertools.count()
    return lambda: (path, f"ledger-{next(numbers)}")


@given(commands=COMMANDS)
@settings(max_examples=15)
def test_the_same_histories_on_sqlite(database: Callable[[], tuple[str, str]], commands: list[Command]) -> None:
    path, name = database()

    async def main() -> None:
        make = lambda: SqliteEngine(path, lease=5.0, synchronous="normal")  # noqa: E731
        await _play(make, name, commands, timed=False)

    trio.run(main)
