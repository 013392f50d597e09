"""Applying migrations to a SQLite file, and the engine's own tables: `hf_schema` and `hf_clock`."""

# apsw's stubs speak of ctypes without importing it.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ._clock import HostClock, offset_for
from ._errors import SchemaMismatch
from ._schema import Migration

if TYPE_CHECKING:
    import apsw

log = logging.getLogger("otp.engines")

Schemas = Mapping[str, tuple[Migration, ...]]

# The one table whose form can never change, since everything else is judged by it.
BOOTSTRAP = """
CREATE TABLE IF NOT EXISTS hf_schema (
  component TEXT NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  compatible_from INTEGER NOT NULL,
  PRIMARY KEY (component, version)
) WITHOUT ROWID
"""

ENGINE = (
    Migration(
        number=1,
        statements="""
        CREATE TABLE hf_clock (
          boot TEXT PRIMARY KEY,
          "offset" REAL NOT NULL,
          last REAL NOT NULL
        ) WITHOUT ROWID
        """,
    ),
)


def apply(connection: apsw.Connection, schemas: Schemas, path: str) -> None:
    """Bring the file to what `schemas` ask for. SchemaMismatch if it cannot be used.

    Looks first and takes the write lock only if something is missing; then looks again, since many
    processes may do this at once. Inside a write transaction it becomes part of that.
    """
    known = _exists(connection, "hf_schema")
    if known and not _missing(connection, schemas, path):
        return
    if connection.in_transaction:
        _apply(connection, schemas, path)
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply(connection, schemas, path)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply(connection: apsw.Connection, schemas: Schemas, path: str) -> None:
    connection.execute(BOOTSTRAP)
    for component, migration in _missing(connection, schemas, path):
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO hf_schema (component, version, digest, compatible_from) VALUES (?, ?, ?, ?)",
            (component, migration.number, migration.digest, migration.compatible_from),
        )
        log.info("%s: applied migration %d of %s", path, migration.number, component)


def _exists(connection: apsw.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
    return found.fetchone() is not None


def _missing(connection: apsw.Connection, schemas: Schemas, path: str) -> list[tuple[str, Migration]]:
    missing: list[tuple[str, Migration]] = []
    for component, migrations in schemas.items():
        rows: dict[int, tuple[str, int]] = {
            version: (digest, compatible_from)
            for version, digest, compatible_from in connection.execute(
                "SELECT version, digest, compatible_from FROM hf_schema WHERE component = ?", (component,)
            )
        }
        for migration in migrations:
            found = rows.pop(migration.number, None)
            if found is None:
                missing.append((component, migration))
            elif found[0] != migration.digest:
                raise SchemaMismatch(
                    f"{path}: migration {migration.number} of {component!r} was applied in another form (digest "
                    f"{found[0]}, ours {migration.digest}): the file belongs to a different release; use another file"
                )
        for version, (_, compatible_from) in rows.items():
            if compatible_from > len(migrations):
                raise SchemaMismatch(
                    f"{path}: the tables of {component!r} are at version {version}, which needs a program that "
                    f"knows version {compatible_from}; this one knows {len(migrations)}: use a newer release"
                )
    return missing


def read_offset(connection: apsw.Connection, host: HostClock) -> float:
    """The offset of engine time in this boot; decided and stored by the first opener after the boot."""
    select = 'SELECT "offset" FROM hf_clock WHERE boot = ?'
    row = connection.execute(select, (host.boot,)).fetchone()
    if row is None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            row = connection.execute(select, (host.boot,)).fetchone()
            if row is None:
                last = connection.execute("SELECT coalesce(max(last), 0.0) FROM hf_clock").fetchone()
                assert last is not None
                row = (offset_for(host, last_seen=float(last[0])),)
                connection.execute(
                    'INSERT INTO hf_clock (boot, "offset", last) VALUES (?, ?, ?)',
                    (host.boot, row[0], row[0] + host.monotonic()),
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return float(row[0])


def stamp(connection: apsw.Connection, host: HostClock, now: float) -> None:
    """Note that time has come to `now`, so that it does not go back after a reboot with a wrong wall clock."""
    connection.execute("UPDATE hf_clock SET last = max(last, ?) WHERE boot = ?", (now, host.boot))
