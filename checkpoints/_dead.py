"""The dead letters of an inbox, for people and their tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._check import check_count, check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otp.engines import DeadLetter, Transaction

    from ._backend import InboxBackend

_PAGE = 100


class InboxDeadLetters:
    """The entries of one inbox that were given up; reached as `inbox.dead`.

    An entry gets here by `InboxReader.bury`. It stays until somebody requeues or drops it, and so long a post with its
    id is a duplicate.
    """

    def __init__(self, backend: InboxBackend, inbox: str, max_depth: int, dedup_window: float) -> None:
        self._backend = backend
        self._inbox = inbox
        self._max_depth = max_depth
        self._dedup_window = dedup_window

    async def list(self, *, limit: int = 100, after: DeadLetter | None = None) -> Sequence[DeadLetter]:
        """Return a page of dead letters, the oldest first.

        Args:
            limit: how many at most.
            after: the last one of the page before; it may be gone by now.

        """
        check_count("limit", limit, least=1)
        place = None if after is None else (after.last_at, after.id)
        return await self._backend.dead_list(self._inbox, limit, place)

    async def show(self, id_: str) -> DeadLetter | None:
        """Return the dead letter of this entry, None if it has none."""
        check_name("id_", id_)
        return await self._backend.dead_show(self._inbox, id_)

    async def requeue(self, id_: str, *, tx: Transaction | None = None) -> bool:
        """Put it back into the inbox; return False if it is not there.

        It goes to the *end*: its old place is in the past, later entries may have been handled, and order among what is
        unprocessed is what an inbox promises. It keeps its id, so a later post with this id is a duplicate and its
        effects elsewhere are still recognised; its attempts begin anew.

        Raises:
            InboxFull: there is no room. It stays a dead letter.

        """
        check_name("id_", id_)
        return await self._backend.dead_requeue(self._inbox, id_, self._max_depth, tx) is not None

    async def requeue_all(self, select: Callable[[DeadLetter], bool] | None = None) -> int:
        """Put back all that are dead when this is called and that `select` picks, the oldest first; return how many.

        One by one: after a cancellation or InboxFull some are back and the others still dead.
        """
        # The ids first: a handler may bury them again as fast as they are requeued.
        chosen: list[str] = []
        page = await self.list(limit=_PAGE)
        while page:
            chosen += [letter.id for letter in page if select is None or select(letter)]
            page = await self.list(limit=_PAGE, after=page[-1])
        return sum([await self.requeue(id_) for id_ in chosen])

    async def drop(self, id_: str, *, tx: Transaction | None = None) -> bool:
        """Delete it for good; return False if it is not there. Its id is recognised for `dedup_window` more."""
        check_name("id_", id_)
        return await self._backend.dead_drop(self._inbox, id_, self._dedup_window, tx)
