"""Engine time: the same for all processes of a host, blind to wall-clock jumps, going on after a reboot."""

import pytest
import trio
from trio.testing import MockClock

from otp.engines import MemoryEngine, MemoryStore, NotOpen, SqliteEngine
from otp.engines._clock import HostClock, host_clock
from tests.engines.support import sql


class Host:
    """A host whose clocks are set by hand."""

    def __init__(self, boot: str = "boot-1") -> None:
        self.since_boot = 100.0
        self.wall = 1_700_000_000.0
        self.boot = boot

    def clock(self) -> HostClock:
        return HostClock(self.boot, lambda: self.since_boot, lambda: self.wall)


async def test_a_jump_of_the_wall_clock_changes_nothing(tmp_path):
    host = Host()
    async with SqliteEngine(tmp_path / "x.db", host=host.clock()) as engine:
        assert await engine.read(engine.now) == 1_700_000_000.0
        host.since_boot += 5
        host.wall -= 3600
        assert await engine.read(engine.now) == 1_700_000_005.0
        async with SqliteEngine(tmp_path / "x.db", host=host.clock()) as other:
            assert await other.read(other.now) == 1_700_000_005.0


@pytest.mark.parametrize(("wall", "expected"), [(1_700_001_000.0, 1_700_001_000.0), (0.0, 1_700_000_050.0)])
async def test_a_reboot_goes_on_and_never_back(tmp_path, wall, expected):
    host = Host()
    async with SqliteEngine(tmp_path / "x.db", host=host.clock()) as engine:
        host.since_boot += 50
        await engine.write(sql("CREATE TABLE t AS SELECT 1"))
        await engine.write(sql("INSERT INTO t VALUES (2)"))
    again = Host("boot-2")
    again.since_boot, again.wall = 3.0, wall
    async with SqliteEngine(tmp_path / "x.db", host=again.clock()) as engine:
        assert await engine.read(engine.now) == expected
    # The first boot's offset is still there: a process of it that comes late agrees with its siblings.
    async with SqliteEngine(tmp_path / "x.db", host=host.clock()) as engine:
        assert await engine.read(engine.now) == 1_700_000_050.0


def test_the_host_has_a_clock():
    clock = host_clock()
    assert clock.boot
    first = clock.monotonic()
    assert clock.monotonic() >= first
    assert clock is host_clock()


async def test_time_of_an_engine_that_was_never_opened(tmp_path):
    engine = SqliteEngine(tmp_path / "x.db")
    with pytest.raises(NotOpen):
        engine.now(None)  # type: ignore[arg-type]


def test_a_shared_memory_store_never_goes_back_in_a_later_run():
    store = MemoryStore()

    async def main(sleep: float) -> float:
        async with MemoryEngine(store=store) as engine:
            await trio.sleep(sleep)
            return await engine.read(engine.now)

    first = trio.run(main, 1000.0, clock=MockClock(autojump_threshold=0))
    assert trio.run(main, 1.0, clock=MockClock(autojump_threshold=0)) >= first
