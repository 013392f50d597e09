"""How an entry gets into an inbox in SQLite: number, depth, row and id in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import InboxFull
from ._sql import ENVELOPE, changed, columns_of, dump_history, row

if TYPE_CHECKING:
    import apsw

    from .._rows import NewEntry

# More than one post can add, so that ids that have expired never pile up; of any inbox, since there may be as many as
# there are entities, most of which get no post any more.
_PRUNED_BY_A_POST = 2

_KNOWN = "SELECT seq FROM hf_inbox_dedup WHERE name = ? AND id = ? AND (expires_at IS NULL OR expires_at > ?)"
_NUMBER = """
UPDATE hf_inbox_head SET next_seq = next_seq + 1, depth = depth + 1 WHERE name = ? AND depth < ? RETURNING next_seq - 1
"""
_FIRST = "INSERT INTO hf_inbox_head (name, epoch, next_seq, depth) VALUES (?, 0, 2, 1)"
_ENTRY = f"""
INSERT INTO hf_inbox (name, seq, id, deduplicated, sender, posted_at, history,
attempts, attempt_epoch, releases, error, {ENVELOPE}) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, '', ?, ?, ?, ?, ?, ?)
"""
_REMEMBER = """
INSERT INTO hf_inbox_dedup (name, id, seq) VALUES (?, ?, ?)
ON CONFLICT (name, id) DO UPDATE SET seq = excluded.seq, expires_at = NULL
"""
_PRUNE = """
DELETE FROM hf_inbox_dedup WHERE (name, id) IN (
SELECT name, id FROM hf_inbox_dedup WHERE expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?)
"""


def known(c: apsw.Connection, name: str, id_: str, now: float) -> int | None:
    """Return the place of the first entry with this id, if the id is still recognised."""
    found = row(c, _KNOWN, name, id_, now)
    return None if found is None else int(found[0])


def append(c: apsw.Connection, name: str, entry: NewEntry, max_depth: int, now: float) -> int:
    """Append the entry and return its place. The write lock makes the order of numbers the order of commits."""
    found = row(c, _NUMBER, name, max_depth)
    if found is not None:
        seq = int(found[0])
    else:
        full = row(c, "SELECT depth FROM hf_inbox_head WHERE name = ?", name)
        if full is not None:
            raise InboxFull(name, full[0], max_depth)
        changed(c, _FIRST, name)
        seq = 1
    changed(
        c,
        _ENTRY,
        name,
        seq,
        entry.id,
        int(entry.deduplicated),
        entry.sender,
        now,
        dump_history(entry.history),
        *columns_of(entry.envelope),
    )
    if entry.deduplicated:
        changed(c, _REMEMBER, name, entry.id, seq)
        changed(c, _PRUNE, now, _PRUNED_BY_A_POST)
    return seq
