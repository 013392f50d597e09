"""Conformance suites: an engine that passes them keeps the promises of this package.

For an engine of your own, with pytest and pytest-trio:

    class TestNames(NameLeaseConformance):
        @pytest.fixture
        def make_engine(self, tmp_path):
            return lambda: engine_for(f"mine://{tmp_path}", lease=self.lease)

and the same with `CheckpointConformance` and `InboxConformance`. Each call of `make_engine` makes another engine on the
same, at first empty, store: they play the pods of a deployment. Flags and hooks are those of `Stage`.
"""

import pytest

# Before they are imported: a failing assertion shows its values, as it does in a test module of one's own.
pytest.register_assert_rewrite(
    *(f"{__name__}._{part}" for part in ("checkpoints", "dead", "inbox", "names", "posting", "reading", "stage"))
)

from ._checkpoints import CheckpointConformance as CheckpointConformance
from ._inbox import InboxConformance as InboxConformance
from ._names import NameLeaseConformance as NameLeaseConformance
from ._stage import Stage as Stage
