"""Leases, checkpoints and inboxes in SQLite."""

from .._backends import Backends
from ._checkpoints import SqliteCheckpoints
from ._inbox import SqliteInboxes
from ._names import SqliteNames

BACKENDS = Backends(SqliteNames, SqliteCheckpoints, SqliteInboxes)
