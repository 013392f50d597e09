"""Migrations: idempotent, compared, safe when many start at once, tolerant of additive newer ones."""

from contextlib import suppress

import apsw
import pytest
import trio

from otp.engines import Migration, SchemaMismatch, SqliteEngine, StoreError
from tests.engines.support import sql

ONE = Migration(number=1, statements="CREATE TABLE thing (id INTEGER PRIMARY KEY)")
TWO = Migration(number=2, statements=["ALTER TABLE thing ADD COLUMN name TEXT", "CREATE INDEX named ON thing (name)"])
BREAKING = Migration(number=2, statements="ALTER TABLE thing RENAME TO other", compatible_from=2)


def engine_with(tmp_path, *migrations: Migration) -> SqliteEngine:
    engine = SqliteEngine(tmp_path / "x.db")
    engine.schema("things", migrations)
    return engine


def columns(c: apsw.Connection) -> list[str]:
    return [name for (name,) in c.execute("SELECT name FROM pragma_table_info('thing')")]


async def test_applied_once_and_extended_later(tmp_path):
    async with engine_with(tmp_path, ONE) as engine:
        assert await engine.read(columns) == ["id"]
    async with engine_with(tmp_path, ONE):
        pass
    async with engine_with(tmp_path, ONE, TWO) as engine:
        assert await engine.read(columns) == ["id", "name"]


async def test_an_older_program_accepts_an_additive_newer_schema(tmp_path):
    """A rolling deploy: the new pods migrate while the old ones work, and old ones start again."""
    async with engine_with(tmp_path, ONE) as old, engine_with(tmp_path, ONE, TWO):
        await old.write(sql("INSERT INTO thing (id) VALUES (1)"))
        async with engine_with(tmp_path, ONE) as another:
            await another.write(sql("INSERT INTO thing (id) VALUES (2)"))


async def test_a_newer_schema_that_older_programs_cannot_live_with_is_refused(tmp_path):
    async with engine_with(tmp_path, ONE, BREAKING):
        pass
    with pytest.raises(SchemaMismatch, match="newer release"):
        async with engine_with(tmp_path, ONE):
            pass


async def test_another_form_of_the_same_migration_is_refused(tmp_path):
    async with engine_with(tmp_path, ONE):
        pass
    other = Migration(number=1, statements="CREATE TABLE thing (id TEXT PRIMARY KEY)")
    with pytest.raises(SchemaMismatch, match="another form"):
        async with engine_with(tmp_path, other):
            pass
    respaced = Migration(number=1, statements="CREATE TABLE thing\n  (id INTEGER   PRIMARY KEY)")
    async with engine_with(tmp_path, respaced):
        pass


async def test_a_failing_migration_leaves_nothing(tmp_path):
    bad = Migration(number=2, statements=["CREATE TABLE half (a)", "CREATE NONSENSE"])
    with pytest.raises(apsw.SQLError):
        async with engine_with(tmp_path, ONE, bad):
            pass
    async with engine_with(tmp_path, ONE, TWO) as engine:
        assert await engine.read(columns) == ["id", "name"]
        assert await engine.read(lambda c: c.execute("SELECT 1 FROM sqlite_schema WHERE name='half'").fetchall()) == []


async def test_added_while_the_engine_is_open(tmp_path):
    async with SqliteEngine(tmp_path / "x.db") as engine:
        engine.schema("things", [ONE])
        assert await engine.read(columns) == ["id"]
        engine.schema("more", [Migration(number=1, statements="CREATE TABLE more (a)")])
        async with engine.transaction() as tx:
            await tx.execute("INSERT INTO more VALUES (1)")
        engine.schema("wrong", [Migration(number=1, statements="CREATE TABLE more (a)")])
        for _ in range(2):
            with pytest.raises(apsw.SQLError):
                await engine.write(lambda c: None)
            with pytest.raises(apsw.SQLError):
                await engine.read(columns)


async def test_added_inside_a_transaction(tmp_path):
    async with SqliteEngine(tmp_path / "x.db") as engine:
        for attempt in ("rolled back", "committed"):
            with suppress(KeyError):
                async with engine.transaction() as tx:
                    engine.schema("things", [ONE])
                    await tx.execute("INSERT INTO thing VALUES (1)")
                    if attempt == "rolled back":
                        raise KeyError
        assert await engine.read(columns) == ["id"]
        async with engine.transaction() as tx:
            engine.schema("more", [Migration(number=1, statements="CREATE TABLE more (a)")])
            with pytest.raises(StoreError, match="has a transaction open"):  # and not a wait for its own end
                await engine.read(columns)


async def test_many_engines_at_once(tmp_path):
    async def start() -> None:
        async with engine_with(tmp_path, ONE, TWO):
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(start)


def test_wrong_migrations():
    with pytest.raises(ValueError, match="compatible_from"):
        Migration(number=1, statements="x", compatible_from=2)
    with pytest.raises(ValueError, match="no statements"):
        Migration(number=1, statements=())
