"""The tables, whose times are engine seconds.

A change is a new migration that only adds, since old and new pods run side by side.
"""

from __future__ import annotations

from typing import Any, Final

from otp.engines import Engine, Migration

_MIGRATIONS: Final = (
    Migration(
        number=1,
        statements=(
            # Rows are never deleted and epochs never reset: that is what makes an old token recognisable.
            """
            CREATE TABLE hf_lease (
                name TEXT PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, until REAL NOT NULL
            ) STRICT, WITHOUT ROWID
            """,
            """
            CREATE TABLE hf_checkpoint_head (
                key TEXT PRIMARY KEY, lease TEXT NOT NULL, owner TEXT NOT NULL, epoch INTEGER NOT NULL,
                next_seq INTEGER NOT NULL, touched_at REAL NOT NULL, closed_at REAL
            ) STRICT, WITHOUT ROWID
            """,
            """
            CREATE INDEX hf_checkpoint_closed ON hf_checkpoint_head (closed_at) WHERE closed_at IS NOT NULL
            """,
            # With a rowid: steps may be large, and large rows are slow inside an index.
            """
            CREATE TABLE hf_checkpoint (
                key TEXT NOT NULL, step TEXT NOT NULL, occurrence INTEGER NOT NULL, seq INTEGER NOT NULL,
                topic TEXT NOT NULL, version INTEGER NOT NULL, codec TEXT NOT NULL, headers TEXT NOT NULL,
                checksum INTEGER NOT NULL, step_checksum INTEGER NOT NULL, epoch INTEGER NOT NULL,
                saved_at REAL NOT NULL, body BLOB NOT NULL,
                PRIMARY KEY (key, step, occurrence)
            ) STRICT
            """,
            """
            CREATE TABLE hf_inbox_head (
                name TEXT PRIMARY KEY, lease TEXT, owner TEXT, epoch INTEGER NOT NULL,
                next_seq INTEGER NOT NULL, depth INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID
            """,
            # `due_at` is room for delayed entries; it is NULL so far.
            """
            CREATE TABLE hf_inbox (
                name TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, deduplicated INTEGER NOT NULL,
                sender TEXT, posted_at REAL NOT NULL, due_at REAL, unknown_since REAL,
                attempts INTEGER NOT NULL, attempt_epoch INTEGER NOT NULL, releases INTEGER NOT NULL,
                error TEXT NOT NULL, history TEXT NOT NULL,
                topic TEXT NOT NULL, version INTEGER NOT NULL, codec TEXT NOT NULL, headers TEXT NOT NULL,
                checksum INTEGER NOT NULL, body BLOB NOT NULL,
                PRIMARY KEY (name, seq)
            ) STRICT, WITHOUT ROWID
            """,
            # `expires_at` is NULL as long as the entry, or its dead letter, is there.
            """
            CREATE TABLE hf_inbox_dedup (
                name TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, expires_at REAL,
                PRIMARY KEY (name, id)
            ) STRICT, WITHOUT ROWID
            """,
            """
            CREATE INDEX hf_inbox_dedup_expiry ON hf_inbox_dedup (expires_at) WHERE expires_at IS NOT NULL
            """,
            """
            CREATE TABLE hf_inbox_dead (
                name TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, deduplicated INTEGER NOT NULL,
                sender TEXT, attempts INTEGER NOT NULL, releases INTEGER NOT NULL, reason TEXT NOT NULL,
                error TEXT NOT NULL, history TEXT NOT NULL, owner TEXT NOT NULL, epoch INTEGER NOT NULL,
                posted_at REAL NOT NULL, died_at REAL NOT NULL,
                topic TEXT NOT NULL, version INTEGER NOT NULL, codec TEXT NOT NULL, headers TEXT NOT NULL,
                checksum INTEGER NOT NULL, body BLOB NOT NULL,
                PRIMARY KEY (name, id)
            ) STRICT, WITHOUT ROWID
            """,
            """
            CREATE INDEX hf_inbox_dead_age ON hf_inbox_dead (name, died_at, id)
            """,
        ),
    ),
)


def prepare(engine: Engine[Any]) -> None:
    """Have the tables made when the engine is opened."""
    engine.schema("checkpoints", _MIGRATIONS)
