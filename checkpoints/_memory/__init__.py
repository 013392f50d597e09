"""Leases, checkpoints and inboxes in memory: the same promises, but for durability."""

from .._backends import Backends
from ._checkpoints import MemoryCheckpoints
from ._inbox import MemoryInboxes
from ._names import MemoryNames

BACKENDS = Backends(MemoryNames, MemoryCheckpoints, MemoryInboxes)
