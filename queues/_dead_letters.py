"""The jobs of a queue that were given up: look at them, put them back, throw them away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._checks import check_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from otp.engines import DeadLetter

    from ._backend import QueueBackend
    from ._records import Policy

PAGE = 500  # dead letters that are moved by one operation, so that the store is never held up for long


class DeadLetters:
    """The dead letters of one queue; reached as `queue.dead`.

    A job gets here by `reject`, by a failure in its last attempt, by leases that ran out as often as it has
    attempts, by a payload nobody can read, or because nobody who knows its topic or version came within
    `unknown_grace`. It stays until somebody requeues or drops it.
    """

    def __init__(self, backend: QueueBackend, policy: Callable[[], Policy]) -> None:
        self._backend = backend
        self._policy = policy

    async def list(self, *, limit: int = 100, after: DeadLetter | None = None) -> list[DeadLetter]:
        """Return a page of dead letters, the oldest first.

        Args:
            limit: how many at most.
            after: the last one of the page before; it may be gone by now.
        """
        return await self._backend.dead_letters(
            check_count("limit", limit), None if after is None else (after.last_at, after.id)
        )

    async def show(self, job_id: str) -> DeadLetter | None:
        """Return the dead letter of this job, None if it has none."""
        return await self._backend.dead_letter(job_id)

    async def requeue(self, job_id: str) -> bool:
        """Make the dead letter a job again, at the end of its priority; return False if there is none.

        It keeps its id, its dedup id and what is known of its failures. Attempts and releases begin at 0 again;
        the epoch goes on, so that a zombie of its former life still cannot touch it.
        """
        return await self._backend.requeue([job_id]) == 1

    async def requeue_all(self, select: Callable[[DeadLetter], bool] | None = None) -> int:
        """Requeue all that are dead when this is called and that `select` picks; return how many.

        Done in portions: after a cancellation or an error some are requeued and the others still dead.
        """
        return await self._each(select, self._backend.requeue)

    async def drop(self, job_id: str) -> bool:
        """Delete the dead letter; return False if there is none. Its dedup id stays known for `dedup_window`."""
        return await self._drop([job_id]) == 1

    async def drop_all(self, select: Callable[[DeadLetter], bool] | None = None) -> int:
        """Delete all that `select` picks; return how many. Done in portions as `requeue_all`."""
        return await self._each(select, self._drop)

    async def _drop(self, job_ids: Sequence[str]) -> int:
        return await self._backend.drop(job_ids, self._policy())

    async def _each(
        self,
        select: Callable[[DeadLetter], bool] | None,
        act: Callable[[Sequence[str]], Awaitable[int]],
    ) -> int:
        # The ids first: a handler may bury requeued jobs again as fast as they are requeued.
        chosen: list[str] = []
        page: Sequence[DeadLetter] = await self.list(limit=PAGE)
        while page:
            chosen += [letter.id for letter in page if select is None or select(letter)]
            page = await self.list(limit=PAGE, after=page[-1])
        return sum([await act(chosen[at : at + PAGE]) for at in range(0, len(chosen), PAGE)])
