"""The SQLite engine: a burning task beside it, group commit, and waking up. ``make bench ARGS=sqlite``.

Only ratios taken in the same run mean something; the absolute figures depend on the machine and its disk.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import trio

from otp.engines import Lease, Migration, SqliteEngine, Token
from otp.engines._guard import StarvationGuard

TABLES = Migration(
    number=1,
    statements=(
        "CREATE TABLE job (id INTEGER PRIMARY KEY, state INTEGER DEFAULT 0, until REAL, body BLOB)",
        "CREATE INDEX ready ON job (id) WHERE state = 0",
    ),
)
CLAIM = (
    "UPDATE job SET state = 1, until = ? WHERE id IN "
    "(SELECT id FROM job WHERE state = 0 ORDER BY id LIMIT 1) RETURNING id"
)
now = time.perf_counter


def open_engine(folder: Path, **options: Any) -> SqliteEngine:
    engine = SqliteEngine(folder / "bench.db", **options)
    engine.schema("bench", [TABLES])
    return engine


def figures(times: list[float]) -> str:
    ordered = sorted(1000 * seconds for seconds in times)
    at = [ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]]
    return "p50 {:.2f}  p99 {:.2f}  max {:.2f} ms (n={})".format(*at, len(ordered))


def insert(c: Any) -> None:
    c.execute("INSERT INTO job (body) VALUES (?)", (b"x" * 200,))


async def starvation(folder: Path, slice_us: int, seconds: float) -> None:
    """Claims, one after the other, and heartbeats, while a task burns CPU in slices."""
    engine = open_engine(folder, lease=0.6, margin=0.1)
    sent: list[float] = []

    def extend(_c: Any, tokens: Any, _until: float) -> Any:
        sent.append(now())
        return tokens

    engine.lease_kind("job", extend)
    async with engine, trio.open_nursery() as nursery:
        await engine.write(lambda c: c.executemany("INSERT INTO job (body) VALUES (?)", [(b"x" * 200,)] * 5000).get)
        lease = Lease(Token("job", "1", engine.owner, 1), deadline=engine.monotonic() + engine.lease)
        engine.hold(lease)
        burnt = 0

        async def burn() -> None:
            nonlocal burnt
            while True:
                end = now() + slice_us * 1e-6
                while now() < end:
                    pass
                burnt += 1
                await trio.lowlevel.checkpoint()

        if slice_us:
            nursery.start_soon(burn)
        times: list[float] = []
        begun = now()
        while now() - begun < seconds:
            at = now()
            await engine.write(lambda c: c.execute(CLAIM, (engine.now(c) + 15,)).fetchall())
            times.append(now() - at)
            await trio.sleep(0.003)
        spent = now() - begun
        nursery.cancel_scope.cancel()
        seen = engine.statistics()
    kept = burnt * slice_us / spent / 1e4
    print(
        f"slices of {slice_us:5d} us: claim {figures(times)}; heartbeat late by at most "
        f"{1000 * seen.beat_late_max:.1f} ms (n={seen.beats}); the task keeps {kept:.0f} % CPU",
        flush=True,
    )


async def group_commit(folder: Path, tasks: int, synchronous: Any) -> float:
    async with open_engine(folder, synchronous=synchronous) as engine:
        each = max(1, 3000 // tasks) if tasks > 1 else 300
        begun = now()
        async with trio.open_nursery() as nursery:

            async def writer() -> None:
                for _ in range(each):
                    await engine.write(insert)

            for _ in range(tasks):
                nursery.start_soon(writer)
        return each * tasks / (now() - begun)


async def waking(folder: Path) -> None:
    """From one engine's commit to the other's waking up, as between two pods."""
    async with open_engine(folder) as a, open_engine(folder) as b:
        times: list[float] = []
        for count in range(1, 201):
            woken = trio.Event()

            async def wait(count: int = count, woken: trio.Event = woken) -> None:
                query = "SELECT count(*) FROM job"
                await b.watch(lambda c, _: 0.0 if c.execute(query).get >= count else math.inf)
                woken.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(0.003)
                await a.write(insert)
                at = now()
                await woken.wait()
                times.append(now() - at)
    print(f"woken by another engine's commit: {figures(times)}")


def in_folder(fn: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return trio.run(fn, Path(folder), *arguments)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks sqlite", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each of the starvation runs")
    parser.add_argument("--unguarded", action="store_true", help="also show what happens without the guard")
    options = parser.parse_args(arguments)
    for slice_us in (0, 100, 500, 2000):
        in_folder(starvation, slice_us, options.seconds)
    if options.unguarded:
        print("without the guard:")
        with mock.patch.object(StarvationGuard, "before_io_wait"):
            in_folder(starvation, 500, options.seconds)
    for synchronous in ("full", "normal"):
        rates = {tasks: in_folder(group_commit, tasks, synchronous) for tasks in (1, 100, 1000)}
        print(
            f"writes/s, synchronous={synchronous}: "
            + ", ".join(f"{tasks} tasks {rate:,.0f} (x{rate / rates[1]:.1f})" for tasks, rate in rates.items()),
            flush=True,
        )
    in_folder(waking)
    return 0
