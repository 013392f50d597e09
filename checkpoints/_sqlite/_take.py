"""How an entry leaves an inbox in SQLite, or its attempt is taken back: fenced, and only at the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import EntryGone, NotHead
from ._sql import Row, changed, lost, row

if TYPE_CHECKING:
    import apsw

    from otp.engines import Token

_FENCE = "UPDATE hf_inbox_head SET depth = depth - 1 WHERE name = ? AND owner = ? AND epoch = ?"
_GIVE_BACK = """
UPDATE hf_inbox SET attempts = attempts - 1, releases = releases + 1, attempt_epoch = 0
WHERE name = ?1 AND seq = (SELECT min(seq) FROM hf_inbox WHERE name = ?1) AND attempt_epoch = ?3 AND EXISTS
    (SELECT 1 FROM hf_inbox_head WHERE name = ?1 AND lease = 'name:' || ?1 AND owner = ?2 AND epoch = ?3)
"""
_FORGET_LATER = "UPDATE hf_inbox_dedup SET expires_at = ? WHERE name = ? AND id = ?"


def take_head(c: apsw.Connection, name: str, token: Token, seq: int, columns: str) -> Row:
    """Delete the head and return these columns of it."""
    if not changed(c, _FENCE, name, token.owner, token.epoch):
        raise lost(token)
    taken = row(
        c,
        "DELETE FROM hf_inbox WHERE name = ?1 AND seq = ?2 AND seq = (SELECT min(seq) FROM hf_inbox WHERE name = ?1)"
        f" RETURNING {columns}",
        name,
        seq,
    )
    if taken is None:
        raise not_head(c, name, seq)  # which undoes the fence's change of the depth
    return taken


def give_back_attempt(c: apsw.Connection, name: str, owner: str, epoch: int) -> None:
    """Who gives the lease of an inbox's own name back in the middle of an entry was interrupted: it counts for nothing.

    What failed was noted as a failure before, and is not touched.
    """
    changed(c, _GIVE_BACK, name, owner, epoch)


def not_head(c: apsw.Connection, name: str, seq: int) -> EntryGone | NotHead:
    """Return why `seq` is not the head."""
    found = row(c, "SELECT min(seq) FROM hf_inbox WHERE name = ?", name)
    head = None if found is None else found[0]
    return NotHead(name, seq, head) if head is not None and head < seq else EntryGone(name, seq)


def forget_later(c: apsw.Connection, name: str, id_: str, at: float) -> None:
    """Have an id recognised until then."""
    changed(c, _FORGET_LATER, at, name, id_)
