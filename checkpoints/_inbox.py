"""Durable inboxes, from the side of those who send: post, dead letters, figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from uuid import uuid4

from otp.engines import Engine, Lease, Topic, Topics, Transaction

from ._backends import backends_for
from ._check import check_count, check_name, check_seconds
from ._dead import InboxDeadLetters
from ._reader import InboxReader
from ._rows import InboxStatistics, NewEntry, Posted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")


class Inbox(Generic[T]):
    """A durable inbox: a message is stored before it is handled, handled in order by one owner, and marked after.

    Anyone may post, without a lease. Entries get numbers under a counter per name, in the order in which the posts are
    committed; the counter is never lowered, whatever is deleted. The one reader is whoever opened the inbox last with
    the lease of its name (`open`).

    Args:
        engine: where it is kept. It need not be open yet.
        name: its durable name.
        topics: the payloads it carries.
        max_depth: how many unprocessed entries it may hold before `post` raises InboxFull.
        dedup_window: seconds for which an id is still recognised after its entry was processed: at least the
            longest time after which a sender may send again.
        unknown_grace: seconds to wait for a program that knows an unknown payload (`UnknownEntry.grace_over`).

    Attributes:
        engine, name, max_depth, dedup_window, unknown_grace: the same.
        dead: the entries that were given up.

    """

    @overload
    def __init__(
        self,
        engine: Engine[Any],
        name: str,
        topics: Iterable[Topic[T]],
        *,
        max_depth: int = 10_000,
        dedup_window: float = 3600.0,
        unknown_grace: float = 300.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Inbox[Any],
        engine: Engine[Any],
        name: str,
        topics: Iterable[Topic[Any]],
        *,
        max_depth: int = 10_000,
        dedup_window: float = 3600.0,
        unknown_grace: float = 300.0,
    ) -> None: ...
    def __init__(
        self,
        engine: Engine[Any],
        name: str,
        topics: Iterable[Topic[Any]],
        *,
        max_depth: int = 10_000,
        dedup_window: float = 3600.0,
        unknown_grace: float = 300.0,
    ) -> None:
        check_name("name", name)
        check_count("max_depth", max_depth, least=1)
        self.name = name
        self.max_depth = max_depth
        self.dedup_window = check_seconds("dedup_window", dedup_window)
        self.unknown_grace = check_seconds("unknown_grace", unknown_grace)
        self.engine = engine
        self._topics = Topics(topics)
        self._backend = backends_for(engine).inboxes(engine)
        self.dead = InboxDeadLetters(self._backend, name, max_depth, self.dedup_window)

    async def post(
        self,
        payload: T,
        *,
        id: str | None = None,  # noqa: A002  the word that senders know it by
        sender: str | None = None,
        headers: Mapping[str, str] | None = None,
        tx: Transaction | None = None,
    ) -> Posted:
        """Store a message. When this returns (or, with `tx`, when that is committed) it will be handled.

        Args:
            payload: of the type of one of the topics.
            id: the sender's dedup id: a second post with it, also by another process and also some time after the
                entry was processed, is answered with the first one's place and writes nothing. Whoever repeats a post
                after StoreUnavailable or a crash gives one. Without, an id is made that is good for effects elsewhere.
            sender: who sends, for people and for replies.
            headers: kept with the payload.
            tx: a transaction of the same engine that the post is part of, for example the one that acknowledges a job.

        Raises:
            InboxFull: `max_depth` unprocessed entries are there. Nothing was written.
            TypeError: no topic carries this payload.
            StoreError: the store cannot be reached or cannot write. Nothing was written, or the post is there entirely.

        If the call is cancelled while the store is at it, the post stands.

        """
        if id is not None:
            check_name("id", id)
        if sender is not None:
            check_name("sender", sender)
        envelope = self._topics.encode(payload, headers=headers)
        entry = NewEntry(id or uuid4().hex, id is not None, sender, envelope)
        return await self._backend.post(self.name, entry, self.max_depth, tx)

    async def open(self, lease: Lease) -> InboxReader[T]:
        """Become the one reader. Writes the lease's owner and epoch into the inbox: older readers are fenced out.

        Raises:
            LeaseLost: a newer reader has opened it, or the lease is lost already. Nothing was written.
            ForeignLease: the inbox was read under another lease before.

        """
        lease.check()
        await self._backend.open(self.name, lease.token)
        return InboxReader(
            self.engine, self._backend, self._topics, lease, self.name, self.dedup_window, self.unknown_grace
        )

    async def statistics(self) -> InboxStatistics:
        """Return the inbox in figures."""
        return await self._backend.statistics(self.name, self.max_depth)
