"""Durable queues: work that many consumers compete for."""

import _holdfast

_holdfast.check_siblings(__name__)  # another package of a sibling's name in the way is one clear ImportError

from ._backend import QueueBackend as QueueBackend
from ._backend import backend_for as backend_for
from ._backend import register_backend as register_backend
from ._counts import QueueCounts as QueueCounts
from ._dead_letters import DeadLetters as DeadLetters
from ._job import Job as Job
from ._outcomes import Done as Done
from ._outcomes import Outcome as Outcome
from ._outcomes import Reject as Reject
from ._outcomes import Release as Release
from ._outcomes import Retry as Retry
from ._records import Claimed as Claimed
from ._records import ClaimedJob as ClaimedJob
from ._records import Finish as Finish
from ._records import NewJob as NewJob
from ._records import Policy as Policy
from ._records import PutResult as PutResult
from ._records import QueueStatistics as QueueStatistics
from ._work_queue import Queue as Queue
