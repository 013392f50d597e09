"""Virtual time for whole classes: pytest-trio takes a clock only from a test's own arguments, which are the suite's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Callable


def _run(fn: Callable[..., Any], **options: Any) -> Any:
    return trio.run(fn, **{**options, "clock": trio.testing.MockClock(autojump_threshold=0)})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let classes that say `virtual_time = True` wait for free."""
    for item in items:
        if isinstance(item, pytest.Function) and getattr(item.cls, "virtual_time", False):
            item.add_marker(pytest.mark.trio(run=_run), append=False)
