"""How envelopes and failures lie in SQLite columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from otp.engines import Envelope, Failure

from ._words import HISTORY, SUMMARY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

ENVELOPE = "topic, version, codec, body, headers, checksum"

# Appends the failure of the attempt that the row is in; of many, the first and the last ones are kept.
# ?1 is the time and ?2 the error's text.
REMEMBER = f"""
json_remove(
    json_insert(history, '$[#]', json_object(
        'attempt', attempts, 'at', ?1, 'owner', owner, 'error', substr(coalesce(?2, 'no error was given'), -{SUMMARY})
    )),
    CASE WHEN json_array_length(history) >= {HISTORY} THEN '$[1]' ELSE '$[{HISTORY + 1}]' END
)"""


def envelope_columns(envelope: Envelope) -> tuple[str, int, str, bytes, str | None, int]:
    """The values for `ENVELOPE`."""
    e = envelope
    return e.topic, e.version, e.codec, e.body, json.dumps(dict(e.headers)) if e.headers else None, e.checksum


def envelope_from(columns: Sequence[Any]) -> Envelope:
    """The envelope from `ENVELOPE`'s values. It is not judged here: damage is the reader's finding."""
    topic, version, codec, body, headers, checksum = columns
    return Envelope(
        topic=topic,
        version=version,
        codec=codec,
        body=body,
        headers=json.loads(headers) if headers else {},
        checksum=checksum,
    )


def history_from(column: str) -> tuple[Failure, ...]:
    """The failures from the history column."""
    return tuple(Failure(**each) for each in json.loads(column))


def _untyped(c: apsw.Connection) -> Any:
    # apsw's stubs leave row and binding types half unknown, which strict checkers report at each use.
    return c


def run(c: apsw.Connection, sql: str, bindings: Sequence[Any]) -> int:
    """Execute one statement that returns nothing; says how many rows it changed."""
    _untyped(c).execute(sql, bindings)
    return c.changes()


def rows(c: apsw.Connection, sql: str, bindings: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All rows, fetched at once: nothing may stay open when the transaction ends."""
    found: list[tuple[Any, ...]] = _untyped(c).execute(sql, bindings).fetchall()
    return found


def value(c: apsw.Connection, sql: str, bindings: Sequence[Any]) -> Any:
    """The only value of the first row, or None."""
    found = rows(c, sql, bindings)
    return found[0][0] if found else None
