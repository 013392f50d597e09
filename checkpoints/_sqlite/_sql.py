"""What the statements of this package share: rows, envelopes, and the fence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from otp.engines import Envelope, Failure, LeaseLost, Token

if TYPE_CHECKING:
    import apsw

Row = tuple[Any, ...]

ENVELOPE = "topic, version, codec, headers, checksum, body"


def rows(c: apsw.Connection, sql: str, *params: Any) -> list[Row]:
    """Return all rows: a statement with RETURNING is only complete when it was read to its end."""
    return c.execute(sql, params).fetchall()  # pyright: ignore  apsw's own stubs are partly untyped


def row(c: apsw.Connection, sql: str, *params: Any) -> Row | None:
    """Return the first row, None if there is none."""
    found = rows(c, sql, *params)
    return found[0] if found else None


def changed(c: apsw.Connection, sql: str, *params: Any) -> int:
    """Run a statement; return how many rows it changed."""
    c.execute(sql, params)  # pyright: ignore  apsw's own stubs are partly untyped
    return c.changes()


def columns_of(envelope: Envelope) -> Row:
    """Return the values of the columns ENVELOPE."""
    headers = json.dumps(dict(envelope.headers)) if envelope.headers else ""
    return (envelope.topic, envelope.version, envelope.codec, headers, envelope.checksum, envelope.body)


def envelope_of(columns: Row) -> Envelope:
    """Return the envelope in the columns ENVELOPE."""
    topic, version, codec, headers, checksum, body = columns
    try:
        kept: Any = json.loads(headers) if headers else {}
        return Envelope(topic=topic, version=version, codec=codec, headers=kept, checksum=checksum, body=body)
    except (AttributeError, TypeError, ValueError):
        # Damaged headers: no checksum is negative, so decoding it says BadPayload.
        return Envelope(topic=topic, version=version, codec=codec, checksum=-1, body=body)


def dump_history(history: tuple[Failure, ...]) -> str:
    """Return the failures as they are stored."""
    return json.dumps([[f.attempt, f.at, f.owner, f.error] for f in history]) if history else ""


def load_history(stored: str) -> tuple[Failure, ...]:
    """Return the failures that are stored; they are for people only, so damage to them hinders nobody."""
    try:
        found: list[list[Any]] = json.loads(stored) if stored else []
        return tuple(Failure(attempt=attempt, at=at, owner=owner, error=error) for attempt, at, owner, error in found)
    except (ValueError, TypeError):
        return ()


def lease_name(token: Token) -> str:
    """Return what identifies the lease: epochs can be compared within one, and only there."""
    return f"{token.kind}:{token.key}"


def lost(token: Token) -> LeaseLost:
    """Return the error of a write that was fenced out."""
    return LeaseLost(token)
