"""Help for testing actors and supervisors: see docs/testing.md."""

from trio.testing import wait_all_tasks_blocked as settle

from .._public import claim as _claim
from ._drive import Driven as Driven
from ._drive import drive as drive
from ._events import CapturedEvents as CapturedEvents
from ._events import capture_events as capture_events
from ._faults import Faults as Faults
from ._faults import Injected as Injected
from ._faults import crash as crash
from ._faults import refuse as refuse
from ._probe import Probe as Probe
from ._schedules import seeded_schedules as seeded_schedules
from ._tasks import living_tasks as living_tasks
from ._tasks import no_task_left as no_task_left
from ._tree import find as find
from ._tree import outline as outline
from ._virtual import advance as advance
from ._virtual import run_virtual as run_virtual

__all__ = [
    "CapturedEvents",
    "Driven",
    "Faults",
    "Injected",
    "Probe",
    "advance",
    "capture_events",
    "crash",
    "drive",
    "find",
    "living_tasks",
    "no_task_left",
    "outline",
    "refuse",
    "run_virtual",
    "seeded_schedules",
    "settle",
]

_claim(globals())
