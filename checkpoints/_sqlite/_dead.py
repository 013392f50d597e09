"""Dead letters of inboxes in SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otp.engines import DeadLetter, Token

from .._rows import NewEntry
from ._append import append
from ._sql import ENVELOPE, Row, changed, envelope_of, load_history, row, rows
from ._take import forget_later, take_head

if TYPE_CHECKING:
    import apsw

_BURY = f"""
INSERT INTO hf_inbox_dead (name, reason, error, owner, epoch, died_at, seq, id, deduplicated, sender, attempts,
releases, posted_at, history, {ENVELOPE}) VALUES ({", ".join("?" * 20)})
"""
_LETTER = f"id, attempts, releases, reason, error, owner, epoch, posted_at, died_at, history, {ENVELOPE}"


def _letter(name: str, columns: Row) -> DeadLetter:
    id_, attempts, releases, reason, error, owner, epoch, posted_at, died_at, history, *envelope = columns
    return DeadLetter(
        id=id_,
        kind="inbox",
        source=name,
        envelope=envelope_of(tuple(envelope)),
        attempts=attempts,
        releases=releases,
        reason=reason,
        error=error,
        first_at=posted_at,
        last_at=died_at,
        owner=owner,
        epoch=epoch,
        history=load_history(history),
    )


def bury(c: apsw.Connection, name: str, token: Token, seq: int, reason: str, error: str, now: float) -> None:
    """Move the head to the dead letters."""
    kept = f"seq, id, deduplicated, sender, attempts, releases, posted_at, history, error, {ENVELOPE}"
    *counts, last_error = (taken := take_head(c, name, token, seq, kept))[:9]
    changed(c, _BURY, name, reason, error or last_error, token.owner, token.epoch, now, *counts, *taken[9:])


def page(c: apsw.Connection, name: str, limit: int, after: tuple[float, str] | None) -> list[DeadLetter]:
    """Return dead letters by age, those behind `after`."""
    at, id_ = after if after is not None else (-1.0, "")
    found = rows(
        c,
        f"SELECT {_LETTER} FROM hf_inbox_dead WHERE name = ? AND (died_at, id) > (?, ?) ORDER BY died_at, id LIMIT ?",
        name,
        at,
        id_,
        limit,
    )
    return [_letter(name, columns) for columns in found]


def show(c: apsw.Connection, name: str, id_: str) -> DeadLetter | None:
    """Return one dead letter."""
    found = row(c, f"SELECT {_LETTER} FROM hf_inbox_dead WHERE name = ? AND id = ?", name, id_)
    return None if found is None else _letter(name, found)


def requeue(c: apsw.Connection, name: str, id_: str, max_depth: int, now: float) -> int | None:
    """Append it again under its id."""
    taken = row(
        c,
        f"DELETE FROM hf_inbox_dead WHERE name = ? AND id = ? RETURNING deduplicated, sender, history, {ENVELOPE}",
        name,
        id_,
    )
    if taken is None:
        return None
    deduplicated, sender, history, *envelope = taken
    entry = NewEntry(id_, bool(deduplicated), sender, envelope_of(tuple(envelope)), load_history(history))
    return append(c, name, entry, max_depth, now)


def drop(c: apsw.Connection, name: str, id_: str, forget_at: float) -> bool:
    """Delete it."""
    dropped = row(c, "DELETE FROM hf_inbox_dead WHERE name = ? AND id = ? RETURNING 1", name, id_)
    if dropped is None:
        return False
    forget_later(c, name, id_, forget_at)
    return True
