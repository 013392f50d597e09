"""Several processes on one file: starting at once, killed with -9, stopped and continued."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from tests.engines.support import add_items, claim, claimed, notes, sql, sqlite

ROOT = Path(__file__).parents[2]


def start(*arguments: object, lease: float = 15.0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.engines.pod", *(str(argument) for argument in arguments)]
    environment = {**os.environ, "LEASE": str(lease)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)


def read_all(process: subprocess.Popen[bytes]) -> list[str]:
    assert process.stdout is not None
    lines = process.stdout.read().decode().splitlines()
    process.stdout.close()
    process.wait()
    return lines


async def line(process: subprocess.Popen[bytes], within: float = 20.0) -> str:
    assert process.stdout is not None
    with trio.fail_after(within):
        found: bytes = await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
    return found.decode().strip()


async def stored(path: Path) -> dict[str, int]:
    async with sqlite(path) as engine:
        return await engine.read(
            lambda c: {str(name): int(str(n)) for name, n in c.execute("SELECT id, count(*) FROM sent GROUP BY id")}
        )


def check(lines: list[str], found: dict[str, int]) -> int:
    sent = {text.split()[1] for text in lines if text.startswith("sent ")}
    acked = {text.split()[1] for text in lines if text.startswith("acked ") and len(text.split()) == 2}
    assert acked <= found.keys(), "acknowledged, but lost"
    assert all(found.get(name, 0) <= 1 for name in sent), "stored twice"
    return len(acked)


@pytest.mark.parametrize("point", ["before-commit", "after-commit"])
async def test_killed_at_a_named_point_of_the_commit(tmp_path, point):
    process = start("send", tmp_path, point, 5, point, 40)
    lines = await trio.to_thread.run_sync(read_all, process)
    assert process.returncode == -signal.SIGKILL
    found = await stored(tmp_path)
    acked = check(lines, found)
    assert acked > 0
    if point == "after-commit":
        assert len(found) > acked, "something was committed that nobody was told of"


def kill_rounds(path: Path, rounds: int, seed: int) -> list[str]:
    """Fault test 4: killed 0 to 50 ms after it has begun to send."""
    rng = random.Random(seed)
    lines: list[str] = []
    for number in range(rounds):
        process = start("send", path, f"{seed}-{number}", 5, "none", 0)
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        lines += read_all(process)
    return lines


async def test_killed_at_random_moments(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    lines = await trio.to_thread.run_sync(kill_rounds, tmp_path, 6, seed)
    assert check(lines, await stored(tmp_path)) > 0


@pytest.mark.soak
async def test_killed_at_random_moments_for_long(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    lines = await trio.to_thread.run_sync(kill_rounds, tmp_path, 200, seed)
    assert check(lines, await stored(tmp_path)) > 0


async def test_many_processes_make_the_same_file_at_once(tmp_path):
    processes = [start("start", tmp_path, number) for number in range(6)]
    for process in processes:
        await trio.to_thread.run_sync(read_all, process)
    assert [process.returncode for process in processes] == [0] * 6
    async with sqlite(tmp_path) as engine:
        assert len(await notes(engine)) == 6 * 20


async def test_processes_never_claim_the_same_item(tmp_path):
    async with sqlite(tmp_path) as engine:
        await add_items(engine, 200)
    processes = [start("take", tmp_path) for _ in range(3)]
    taken: list[str] = []
    for process in processes:
        taken += " ".join(await trio.to_thread.run_sync(read_all, process)).split()
    assert sorted(taken, key=int) == [str(number) for number in range(1, 201)]


async def test_heartbeats_get_through_while_everybody_writes(tmp_path):
    async with sqlite(tmp_path, lease=1.5) as engine:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
        processes = [start("hammer", tmp_path) for _ in range(2)]
        for process in processes:
            assert await line(process) == "open"
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                while True:
                    await engine.write(sql("UPDATE hf_clock SET last = last + 0"))

            for _ in range(20):
                nursery.start_soon(write)
            with lease.guard():
                await trio.sleep(3.0)
            nursery.cancel_scope.cancel()
        for process in processes:
            process.kill()
            await trio.to_thread.run_sync(read_all, process)
        seen = engine.statistics()
        print(f"{seen.writes} writes in {seen.commits} commits, heartbeat late by {1000 * seen.beat_late_max:.0f} ms")  # noqa: T201
        assert not lease.lost
        assert seen.beats >= 4


async def test_a_killed_holder_is_followed_after_its_lease(tmp_path):
    async with sqlite(tmp_path, lease=1.0) as engine:
        await add_items(engine, 1)
        process = start("hold", tmp_path, lease=1.0)
        assert await line(process) == "holds 1"
        await trio.sleep(1.5)
        assert await claim(engine) == []
        process.kill()
        killed = time.monotonic()
        await trio.to_thread.run_sync(read_all, process)
        lease = await claimed(engine)
        assert time.monotonic() - killed < 3.0
        assert lease.token.epoch == 2


async def test_a_zombie_is_told_and_fenced(tmp_path):
    async with sqlite(tmp_path, lease=0.6) as engine:
        await add_items(engine, 1)
        process = start("hold", tmp_path, lease=0.6)
        assert await line(process) == "holds 1"
        process.send_signal(signal.SIGSTOP)
        lease = await claimed(engine)
        process.send_signal(signal.SIGCONT)
        assert await line(process) == "lost"
        assert await line(process) == "refused"
        await trio.to_thread.run_sync(read_all, process)
        assert not lease.lost
