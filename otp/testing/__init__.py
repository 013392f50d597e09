"""Help for testing actors and supervisors."""

from trio.testing import wait_all_tasks_blocked as settle

from ._events import CapturedEvents as CapturedEvents
from ._events import capture_events as capture_events
from ._schedules import seeded_schedules as seeded_schedules
from ._tasks import living_tasks as living_tasks
from ._tasks import no_task_left as no_task_left
from ._virtual import advance as advance
from ._virtual import run_virtual as run_virtual

__all__ = [
    "CapturedEvents",
    "advance",
    "capture_events",
    "living_tasks",
    "no_task_left",
    "run_virtual",
    "seeded_schedules",
    "settle",
]
