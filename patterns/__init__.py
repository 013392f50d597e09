"""The behaviours a durable worker picks."""

import _holdfast

_holdfast.check_siblings(__name__)  # another package of a sibling's name in the way is one clear ImportError

from ._checkpointed_actor import CheckpointedActor as CheckpointedActor
from ._checkpointed_actor import Resume as Resume
from ._checkpointed_actor import Start as Start
from ._checkpointed_actor import Work as Work
from ._checkpointed_jobs import CheckpointedJobs as CheckpointedJobs
from ._durable_inbox import DurableInbox as DurableInbox
from ._events import EntryApplied as EntryApplied
from ._events import EntryEvent as EntryEvent
from ._events import EntryFailed as EntryFailed
from ._events import HandlerStuck as HandlerStuck
from ._events import JobDied as JobDied
from ._events import JobDone as JobDone
from ._events import JobEvent as JobEvent
from ._events import JobLost as JobLost
from ._events import JobReleased as JobReleased
from ._events import JobRetried as JobRetried
from ._events import JobStarted as JobStarted
from ._events import LeaseEvent as LeaseEvent
from ._events import OftenReleased as OftenReleased
from ._events import PatternEvent as PatternEvent
from ._events import Resumed as Resumed
from ._events import StandingBy as StandingBy
from ._events import StepEvent as StepEvent
from ._events import SteppedDown as SteppedDown
from ._events import StepSaved as StepSaved
from ._events import StepStarted as StepStarted
from ._events import StoreOutage as StoreOutage
from ._events import TookOver as TookOver
from ._intake import Intake as Intake
from ._lease_held import LeaseHeld as LeaseHeld
from ._lease_held import StandBack as StandBack
from ._lease_held_actor import LeaseHeldActor as LeaseHeldActor
from ._named_checkpointed_actor import NamedCheckpointedActor as NamedCheckpointedActor
from ._only_where_leased import OnlyWhereLeased as OnlyWhereLeased
from ._only_where_leased import only_where_leased as only_where_leased
from ._queue_consumer import QueueConsumer as QueueConsumer
from ._steps import Steps as Steps
