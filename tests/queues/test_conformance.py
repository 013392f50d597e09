"""The public suite, on the engines that are built in."""

import pytest
import trio
from trio.testing import MockClock

from otp.engines import MemoryEngine, MemoryStore, SqliteEngine
from queues.testing import QueueConformance


def under_virtual_time(test, *, clock, instruments):
    return trio.run(test, clock=MockClock(autojump_threshold=0), instruments=instruments)


class TestMemory(QueueConformance):
    lease = 10.0

    @pytest.fixture
    def make_engine(self, request):
        # pytest-trio finds a clock only among a test's own arguments, and the suite's tests have none.
        request.node.add_marker(pytest.mark.trio(run=under_virtual_time), append=False)
        store = MemoryStore()
        return lambda: MemoryEngine(store=store, lease=self.lease)


class TestSqlite(QueueConformance):
    lease = 0.6

    @pytest.fixture
    def make_engine(self, tmp_path):
        return lambda: SqliteEngine(tmp_path / "jobs.db", lease=self.lease, synchronous="normal")
