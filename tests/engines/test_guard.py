"""A task that computes in short slices must not starve the threads beside it."""

import time
from pathlib import Path

import pytest
import trio

from otp.engines._guard import StarvationGuard
from tests.engines.support import add_items, claim, sqlite

SLICE = 500e-6
BOUND = 0.250  # the aim is 50 ms; a test on a shared machine asserts loosely and prints what it saw


async def burn() -> None:
    while True:
        end = time.perf_counter() + SLICE
        while time.perf_counter() < end:
            pass
        await trio.lowlevel.checkpoint()


def figures(times: list[float]) -> str:
    ordered = sorted(1000 * seconds for seconds in times)
    return f"p50 {ordered[len(ordered) // 2]:.1f} p99 {ordered[int(len(ordered) * 0.99)]:.1f} max {ordered[-1]:.1f} ms"


async def measure(path: Path) -> tuple[float, float]:
    """The worst write and the latest heartbeat beside a burning task, in seconds."""
    async with sqlite(path, lease=0.9) as engine:
        await add_items(engine, 1)
        await claim(engine)
        times: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(burn)
            for _ in range(100):
                begun = time.perf_counter()
                await engine.write(lambda c: c.execute("SELECT id FROM item LIMIT 1").get)
                times.append(time.perf_counter() - begun)
            # Nothing is asked from the threads now: only the heartbeat's own due time can get it the GIL.
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        seen = engine.statistics()
        print(f"write beside a burning task: {figures(times)}; heartbeat late by {1000 * seen.beat_late_max:.1f} ms")  # noqa: T201
        assert seen.beats >= 2
        return max(times), seen.beat_late_max


async def test_writes_and_heartbeats_are_in_time_beside_a_burning_task(tmp_path):
    worst: list[tuple[float, float]] = []
    for attempt in range(3):  # a machine that is busy with other things looks the same, but not three times
        (tmp_path / str(attempt)).mkdir()
        worst.append(await measure(tmp_path / str(attempt)))
        if max(worst[-1]) < BOUND:
            return
    raise AssertionError(f"(write, heartbeat) late by {worst} s")


async def test_the_guard_is_installed_only_while_an_engine_is_open_and_idle_without_work(tmp_path):
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(StarvationGuard())
    async with sqlite(tmp_path) as engine, sqlite(tmp_path):
        guard = StarvationGuard.join()
        guard.leave()
        await engine.write(lambda _: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(burn)
            await trio.sleep(0.02)
            before = guard.yields
            await trio.sleep(0.1)
            assert guard.yields == before
            nursery.cancel_scope.cancel()
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(guard)
