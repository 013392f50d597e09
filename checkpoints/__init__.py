"""What is kept per actor name outside the actor: leases, checkpoints and inboxes."""

import _holdfast

_holdfast.check_siblings(__name__)  # another package of a sibling's name in the way is one clear ImportError

from ._backend import CheckpointBackend as CheckpointBackend
from ._backend import InboxBackend as InboxBackend
from ._backend import NameBackend as NameBackend
from ._backends import Backends as Backends
from ._backends import register_backends as register_backends
from ._checkpoints import Checkpoint as Checkpoint
from ._checkpoints import Checkpoints as Checkpoints
from ._dead import InboxDeadLetters as InboxDeadLetters
from ._errors import AlreadyHeld as AlreadyHeld
from ._errors import BadEntry as BadEntry
from ._errors import EntryGone as EntryGone
from ._errors import ForeignLease as ForeignLease
from ._errors import InboxFull as InboxFull
from ._errors import NotHead as NotHead
from ._errors import StepNotSaved as StepNotSaved
from ._errors import StepTooLarge as StepTooLarge
from ._errors import UnknownEntry as UnknownEntry
from ._inbox import Inbox as Inbox
from ._names import NameLeases as NameLeases
from ._reader import Entry as Entry
from ._reader import InboxReader as InboxReader
from ._rows import CheckpointView as CheckpointView
from ._rows import Counts as Counts
from ._rows import DamagedStep as DamagedStep
from ._rows import Holder as Holder
from ._rows import InboxStatistics as InboxStatistics
from ._rows import NewEntry as NewEntry
from ._rows import Posted as Posted
from ._rows import SavedStep as SavedStep
from ._rows import StepRow as StepRow
from ._rows import StoredEntry as StoredEntry
