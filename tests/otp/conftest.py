"""Lets a module say that its tests run in virtual time: `pytestmark = virtual_time`."""

import pytest
import trio
from trio.testing import MockClock


def run_in_virtual_time(async_fn, *args, clock=None, instruments=()):
    clock = MockClock(autojump_threshold=0) if clock is None else clock
    return trio.run(async_fn, *args, clock=clock, instruments=instruments)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if any(marker.kwargs.get("virtual_time") for marker in item.iter_markers("trio")):
            # In front of the marker by which pytest-trio has said that trio.run is to be used.
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time), append=False)
