"""Fault tests with real processes on SQLite, killed and stopped at named points. Numbers: those of the fault list."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from checkpoints import Checkpoints, Inbox
from otp.engines import SqliteEngine
from tests.checkpoints import pod
from tests.checkpoints.pod import COIN, EFFECTS, Coin

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LEASE = 0.6
PATIENCE = 30.0
ROOT = Path(pod.__file__).parents[2]


class Pod:
    """A process, and what it has said."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.said: list[str] = []
        self.silent = False
        self._more = trio.Event()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        async for data in self.process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            self._tell([line.decode() for line in lines])
        self.silent = True
        self._tell([])

    def _tell(self, lines: list[str]) -> None:
        self.said += lines
        self._more.set()
        self._more = trio.Event()

    async def says(self, what: str) -> None:
        """Wait until it has said so."""
        with trio.fail_after(PATIENCE):
            while what not in self.said:
                assert not self.silent, (what, self.said)
                await self._more.wait()

    async def ends(self) -> None:
        with trio.fail_after(PATIENCE):
            await self.process.wait()
            while not self.silent:
                await self._more.wait()


class Stage:
    """A store in the test's own process, and pods beside it."""

    def __init__(self, path: Path, engine: SqliteEngine, nursery: trio.Nursery) -> None:
        self.path = path
        self.engine = engine
        self.nursery = nursery
        self.inbox = Inbox(engine, "ledger", [COIN])

    async def pod(self, *triggers: str) -> Pod:
        command = [sys.executable, "-m", "tests.checkpoints.pod", str(self.path), str(LEASE), *triggers]
        started = Pod(await trio.lowlevel.open_process(command, cwd=ROOT, stdout=subprocess.PIPE))
        self.nursery.start_soon(self._accompany, started)
        return started

    async def _accompany(self, started: Pod) -> None:
        try:
            await started.listen()
        finally:
            if started.process.poll() is None:
                started.process.kill()  # also a stopped one
                with trio.CancelScope(shield=True):
                    await started.process.wait()

    async def post(self, *values: int) -> None:
        for value in values:
            await self.inbox.post(Coin(value), id=f"coin-{value}")

    async def effects(self) -> list[tuple[int, int, int]]:
        """Return (value, epoch, attempt) of all committed effects, in the order of their commits."""
        async with self.engine.transaction() as tx:
            rows = await tx.execute("SELECT value, epoch, attempt FROM effect ORDER BY place")
        return [(value, epoch, attempt) for value, epoch, attempt in rows]

    async def all_done(self, count: int) -> list[tuple[int, int, int]]:
        with trio.fail_after(PATIENCE):
            while (await self.inbox.statistics()).depth or len(await self.effects()) < count:  # noqa: ASYNC110  others do it
                await trio.sleep(0.01)
        return await self.effects()

    def check(self, effects: list[tuple[int, int, int]], values: list[int]) -> None:
        """L, X and O: each once, in order; F: nothing under an older epoch than one before it."""
        assert [value for value, _, _ in effects] == values
        epochs = [epoch for _, epoch, _ in effects]
        assert epochs == sorted(epochs)


@asynccontextmanager
async def stage(path: Path) -> AsyncGenerator[Stage]:
    async with SqliteEngine(str(path), lease=LEASE) as engine:
        async with engine.transaction() as tx:
            await tx.execute(EFFECTS)
        async with trio.open_nursery() as nursery:
            yield Stage(path, engine, nursery)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("point", ["taken", "handled", "inside", "committed"])
async def test_fault_33_killed_at_any_point_and_again_during_the_replay(tmp_path: Path, point: str) -> None:
    async with stage(tmp_path / "store.db") as scene:
        await scene.post(1, 2, 3, 4)  # persisted, and nobody there yet: the crash between persist and process
        first = await scene.pod(f"{point}:2:kill")
        await first.says(f"kill {point} 2")
        second = await scene.pod(f"{point}:3:kill")
        await second.says(f"kill {point} 3")  # in the middle of the replay
        await scene.post(5)  # behind what is replayed
        third = await scene.pod()
        await third.says("applied 5")
        effects = await scene.all_done(5)
        scene.check(effects, [1, 2, 3, 4, 5])
        again = 1 if point == "committed" else 2  # what was committed is not run again
        assert [attempt for _, _, attempt in effects] == [1, again, again, 1, 1]
        assert "acquired 3" in third.said
        assert f"resumed {1 + 2 + 3 if point == 'committed' else 1 + 2}" in third.said


@pytest.mark.parametrize("end", ["term", "kill"])
async def test_fault_09_of_two_pods_of_one_name_one_works_and_the_other_stands_by(tmp_path: Path, end: str) -> None:
    async with stage(tmp_path / "store.db") as scene:
        one = await scene.pod()
        await one.says("acquired 1")
        two = await scene.pod()
        await two.says("standby")
        await scene.post(*range(1, 11))
        await one.says("applied 10")
        assert not any(word.startswith("handling") for word in two.said)
        os.kill(one.process.pid, signal.SIGTERM if end == "term" else signal.SIGKILL)
        await scene.post(*range(11, 21))
        await two.says("applied 20")
        scene.check(await scene.all_done(20), list(range(1, 21)))
        assert "acquired 2" in two.said
        await one.ends()
        assert ("released True" in one.said) == (end == "term")


async def test_fault_10_a_zombie_writes_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path / "store.db") as scene:
        await scene.post(1, 2, 3)
        zombie = await scene.pod("handled:2:stop")
        await zombie.says("stop handled 2")
        heir = await scene.pod()
        await heir.says("applied 3")
        os.kill(zombie.process.pid, signal.SIGCONT)
        await zombie.says("stopped")
        assert [word for word in zombie.said if re.match("lost|written", word)] == [
            "lost commit",
            "lost mark",
            "lost save",
            "lost next",
        ]
        effects = await scene.all_done(3)
        scene.check(effects, [1, 2, 3])
        assert effects == [(1, 1, 1), (2, 2, 2), (3, 2, 1)]
        view = await Checkpoints(scene.engine).peek("ledger")
        assert view is not None
        assert [saved.envelope.body for saved in view.steps] == [b"6"]


async def test_fault_33_a_sender_killed_after_its_posts_has_posted(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, trio\n"
        "from checkpoints import Inbox\n"
        "from otp.engines import SqliteEngine\n"
        "from tests.checkpoints.pod import COIN, Coin\n"
        "async def main():\n"
        "    async with SqliteEngine(sys.argv[1]) as engine:\n"
        "        for value in range(1, 4):\n"
        "            await Inbox(engine, 'ledger', [COIN]).post(Coin(value), id=f'coin-{value}')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "trio.run(main)\n"
    )
    async with stage(tmp_path / "store.db") as scene:
        for _ in range(2):  # the sender is started anew, knows nothing, and sends all of it again
            with trio.fail_after(PATIENCE):
                sent = await trio.run_process([sys.executable, "-c", script, str(scene.path)], cwd=ROOT, check=False)
            assert sent.returncode == -signal.SIGKILL
        worker = await scene.pod()
        await worker.says("applied 3")
        scene.check(await scene.all_done(3), [1, 2, 3])
