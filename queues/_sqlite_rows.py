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
# ?1 is the time and ?2 the error's text. A damaged history begins anew: it must not keep a job from being finished.
REMEMBER = f"""
json_remove(
    json_insert(iif(json_valid(history), history, '[]'), '$[#]', json_object(
        'attempt', attempts, 'at', ?1, 'owner', owner, 'error', substr(coalesce(?2, 'no error was given'), -{SUMMARY})
    )),
    CASE WHEN iif(json_valid(history), json_array_length(history), 0) >= {HISTORY}
        THEN '$[1]' ELSE '$[{HISTORY + 1}]' END
)"""


def envelope_columns(envelope: Envelope) -> tuple[str, int, str, bytes, str | None, int]:
    """The values for `ENVELOPE`."""
    e = envelope
    return e.topic, e.version, e.codec, e.body, json.dumps(dict(e.headers)) if e.headers else None, e.checksum


def envelope_from(columns: Sequence[Any]) -> Envelope:
    """The envelope from `ENVELOPE`'s values. It is not judged here: damage is the reader's finding."""
    topic, version, codec, body, headers, checksum = columns
    try:
        kept: Any = json.loads(headers) if headers else {}
        return Envelope(topic=topic, version=version, codec=codec, body=body, headers=kept, checksum=checksum)
    except (AttributeError, TypeError, ValueError):
        # Damaged headers. No checksum is negative, so decoding it says BadPayload: one job is buried, no claim fails.
        return Envelope(topic=topic, version=version, codec=codec, body=body, checksum=-1)


def history_from(column: str) -> tuple[Failure, ...]:
    """The failures from the history column; they are for people only, so damage to them hinders nobody."""
    try:
        return tuple(Failure(**each) for each in json.loads(column))
    except (ValueError, TypeError):
        return ()


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
