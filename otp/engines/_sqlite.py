"""The SQLite engine (being written)."""

from __future__ import annotations

from ._memory import MemoryEngine


class SqliteEngine(MemoryEngine):
    """Not there yet."""
