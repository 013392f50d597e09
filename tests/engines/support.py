"""What the tests of the engines share: a small table with leases, and bounded waiting."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import trio

from otp.engines import Engine, Lease, LeaseLost, Migration, SqliteEngine, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MIGRATIONS = (
    Migration(
        number=1,
        statements=(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, owner TEXT, epoch INTEGER DEFAULT 0, until REAL DEFAULT 0)",
            "CREATE TABLE note (text TEXT UNIQUE)",
        ),
    ),
)


def sqlite(path: Path, *, give_back: Any = None, **options: Any) -> SqliteEngine:
    """An engine on a file in `path`, with the test's tables and lease kind."""
    engine = SqliteEngine(path / "test.db", **options)
    engine.schema("test", MIGRATIONS)
    engine.lease_kind("item", extend, give_back)
    return engine


def extend(c: Any, tokens: Sequence[Token], until: float) -> list[Token]:
    return [
        token
        for token in tokens
        if c.execute(
            "UPDATE item SET until = ? WHERE id = ? AND owner = ? AND epoch = ? RETURNING id",
            (until, int(token.key), token.owner, token.epoch),
        ).fetchall()
    ]


def sql(statement: str) -> Callable[[Any], None]:
    """A function for `write` that runs one statement."""

    def fn(c: Any) -> None:
        c.execute(statement)

    return fn


async def add_items(engine: Engine[Any], count: int) -> None:
    await engine.write(lambda c: c.executemany("INSERT INTO item (owner) VALUES (?)", [(None,)] * count) and None)


async def claim(engine: Engine[Any], limit: int = 1) -> list[Lease]:
    """Take items that are free or whose lease has run out; the heartbeat holds them from then on."""
    sent = engine.monotonic()

    def take(c: Any) -> list[tuple[int, int]]:
        now = engine.now(c)
        rows: list[tuple[int, int]] = c.execute(
            "UPDATE item SET owner = ?, epoch = epoch + 1, until = ? WHERE id IN "
            "(SELECT id FROM item WHERE until <= ? ORDER BY id LIMIT ?) RETURNING id, epoch",
            (engine.owner, now + engine.lease, now, limit),
        ).fetchall()
        return rows

    leases = [
        Lease(Token("item", str(key), engine.owner, epoch), deadline=sent + engine.lease)
        for key, epoch in await engine.write(take)
    ]
    for lease in leases:
        engine.hold(lease)
    return leases


def remove(lease: Lease) -> Callable[[Any], None]:
    """The fenced finish of an item."""
    token = lease.token

    def fn(c: Any) -> None:
        if not c.execute(
            "DELETE FROM item WHERE id = ? AND owner = ? AND epoch = ? RETURNING id",
            (int(token.key), token.owner, token.epoch),
        ).fetchall():
            raise LeaseLost(token)

    return fn


def note(text: str) -> Callable[[Any], None]:
    def fn(c: Any) -> None:
        c.execute("INSERT INTO note VALUES (?)", (text,))

    return fn


async def notes(engine: Engine[Any]) -> list[str]:
    return await engine.read(lambda c: [text for (text,) in c.execute("SELECT text FROM note ORDER BY rowid")])


async def until(condition: Callable[[], bool], *, within: float = 10.0) -> float:
    """Wait for a condition that threads or other processes bring about; how long it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within, "the condition did not come about in time"
        await trio.sleep(0.002)
    return time.monotonic() - begun


async def claimed(engine: Engine[Any], *, within: float = 10.0) -> Lease:
    """The first item that can be claimed, as soon as there is one."""
    with trio.fail_after(within):
        while True:
            if leases := await claim(engine):
                return leases[0]
            await trio.sleep(0.005)
