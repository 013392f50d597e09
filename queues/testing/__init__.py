"""The conformance suite for queues: every engine passes it, the in-memory one too; yours can run it.

In a test module of yours, with pytest and pytest-trio (`trio_mode = true`)::

    class TestMyQueue(QueueConformance):
        lease = 1.0                                  # of the engines made below; keep it short

        @pytest.fixture
        def make_engine(self, tmp_path):             # called again and again: engines on *one* fresh store
            return lambda: MyEngine(tmp_path / "store", lease=self.lease)

Each engine made plays a pod. The attributes of `QueueConformance` (`transactions`, `keeps_place`) say what the engine
does not promise. The names of the tests carry the number of the fault they are about, where there is one.
"""

import pytest

# Before they are imported: a failing assertion shows its values, as it does in a test module of one's own.
pytest.register_assert_rewrite(
    *(f"{__name__}._{part}" for part in ["competing", "finishing", "holding", "parking", "putting"])
)

from ._competing import Competing
from ._finishing import Finishing
from ._holding import Holding
from ._parking import Parking
from ._putting import Putting


class QueueConformance(Putting, Holding, Finishing, Parking, Competing):
    """All of it. Subclass it, and give it the fixture `make_engine`."""


__all__ = ["QueueConformance"]
