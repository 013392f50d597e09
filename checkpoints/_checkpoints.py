"""Checkpoints: what a computation has finished, step by step, so that the next incarnation goes on from there."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from ._backends import backends_for
from ._check import check_count, check_name, check_seconds
from ._errors import StepNotSaved, StepTooLarge
from ._rows import CheckpointView, DamagedStep, SavedStep, StepRow, step_checksum
from ._values import Values
from ._when import when_committed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otp.engines import Engine, Lease, Token, Topic, Transaction

    from ._backend import CheckpointBackend

T = TypeVar("T")
D = TypeVar("D")

_log = logging.getLogger(__name__)
_MISSING: Final = object()


class Checkpoints:
    """The checkpoints in one engine.

    A checkpoint belongs to one unit of work: its key is the job's id or the actor's name, and it is always opened with
    the lease of that unit, whatever engine the lease comes from. Its head stores owner and epoch of whoever opened it
    last; older holders are fenced out from then on.

    Args:
        engine: where they are kept. It need not be open yet.
        topics: how values of their types are written and read, with versions and upcasters. Values of other types are
            written as plain JSON by cattrs and read back as the type that `load` is given.
        max_bytes: how much the data of one step may take.
        keep_closed: seconds for which the head of a cleared checkpoint is kept, so that a zombie that wakes up late
            cannot bring it back. Longer than any process can be paused and come to life again; default one week.

    Attributes:
        engine: where they are kept.

    """

    def __init__(
        self,
        engine: Engine[Any],
        topics: Sequence[Topic[Any]] = (),
        *,
        max_bytes: int = 1 << 20,
        keep_closed: float = 7 * 86400.0,
    ) -> None:
        check_count("max_bytes", max_bytes, least=1)
        self._keep_closed = check_seconds("keep_closed", keep_closed)
        self._max_bytes = max_bytes
        self.engine = engine
        self._values = Values(topics)
        self._backend = backends_for(engine).checkpoints(engine)

    async def open(self, key: str, lease: Lease) -> Checkpoint:
        """Make the checkpoint this lease's own and load its steps.

        First the lease's owner and epoch are written into the head: from that moment an older holder's saves are
        refused. A damaged step and all that were saved after it are left out, deleted and reported
        (`Checkpoint.damaged`, and a warning in the log): the work goes on from the last sound step, never from a
        mixture.

        Args:
            key: the job's id or the actor's name.
            lease: a job's or a name's lease, always of the same unit of work.

        Raises:
            LeaseLost: a newer holder has opened it, or the lease is lost already. Nothing was written.
            ForeignLease: the key was used with another lease.

        """
        check_name("key", key)
        lease.check()
        rows = await self._backend.open(key, lease.token)
        sound, damaged = _sound(key, rows)
        if damaged:
            # Also in the store: saving the damaged step anew would otherwise bring back the later ones that rested on
            # it.
            await self._backend.discard(key, lease.token, damaged[0].seq)
            for step in damaged:
                _log.warning(
                    "checkpoint %r: step %r (occurrence %d) is left out: %s",
                    key,
                    step.step,
                    step.occurrence,
                    step.reason,
                )
        return Checkpoint(key, lease, sound, damaged, self._backend, self._values, self._max_bytes, self._keep_closed)

    async def peek(self, key: str) -> CheckpointView | None:
        """Return what is stored under the key, None if nothing is. Takes no lease and changes nothing."""
        check_name("key", key)
        found = await self._backend.peek(key)
        if found is None:
            return None
        view, rows = found
        sound, _ = _sound(key, rows)
        return CheckpointView(view.key, view.lease, view.owner, view.epoch, view.closed, tuple(sound))

    async def prune(self, *, abandoned_for: float | None = None, limit: int = 1000) -> int:
        """Delete the heads of checkpoints that were cleared longer than `keep_closed` ago.

        `clear` does a little of this each time, so that it seldom needs to be called.

        Args:
            abandoned_for: also delete checkpoints, with their steps, that nobody has opened or saved for so many
                seconds: those of jobs that died between ack and clear. None leaves them.
            limit: how many at most.

        Returns:
            How many were deleted.

        """
        check_count("limit", limit, least=1)
        if abandoned_for is not None:
            abandoned_for = check_seconds("abandoned_for", abandoned_for)
        return await self._backend.prune(self._keep_closed, abandoned_for, limit)


class Checkpoint:
    """One checkpoint, opened by `Checkpoints.open` for one incarnation of the work.

    Attributes:
        key: its key.
        lease: the lease it was opened with.
        damaged: the steps that were left out, in the order of their saving; empty when all is well.

    """

    def __init__(
        self,
        key: str,
        lease: Lease,
        steps: Sequence[SavedStep],
        damaged: Sequence[DamagedStep],
        backend: CheckpointBackend,
        values: Values,
        max_bytes: int,
        keep_closed: float,
    ) -> None:
        self.key = key
        self.lease = lease
        self.damaged = tuple(damaged)
        self._token: Token = lease.token
        self._steps = {(saved.step, saved.occurrence): saved for saved in steps}
        self._backend = backend
        self._values = values
        self._max_bytes = max_bytes
        self._keep_closed = keep_closed

    @property
    def saved(self) -> Mapping[tuple[str, int], SavedStep]:
        """The saved steps by name and occurrence, in the order in which they were saved last. A live view."""
        return MappingProxyType(self._steps)

    def latest(self) -> SavedStep | None:
        """Return the step that was saved last, None if there is none: the place to go on from."""
        return next(reversed(self._steps.values()), None)

    async def save(self, step: str, value: object, *, occurrence: int = 0, tx: Transaction | None = None) -> None:
        """Save the result of a step, or how far it has come.

        A step that is saved again is overwritten: that is how a cursor inside a step is kept.

        Args:
            step: the step's name. Names survive changes of the code better than numbers do.
            value: what to keep: any value that cattrs can write as JSON, a topic's payload, or an Envelope as it is.
            occurrence: which pass through a step that is passed several times, from 0.
            tx: a transaction of the same engine that this save is part of. `saved` shows it once that is committed.

        Raises:
            LeaseLost: a newer holder has opened the checkpoint, or the lease is lost. Nothing was written.
            StepTooLarge: the data takes more than `max_bytes`. Nothing was written.

        """
        check_name("step", step)
        check_count("occurrence", occurrence, least=0)
        envelope = self._values.encode(value)
        if len(envelope.body) > self._max_bytes:
            raise StepTooLarge(self.key, step, len(envelope.body), self._max_bytes)
        self.lease.check()
        checksum = step_checksum(self.key, step, occurrence, envelope)
        seq, at = await self._backend.save(self.key, self._token, step, occurrence, envelope, checksum, tx)
        saved = SavedStep(step, occurrence, seq, envelope, self._token.epoch, at)

        def show() -> None:
            self._steps.pop((step, occurrence), None)  # to the end: `latest` is what was saved last
            self._steps[step, occurrence] = saved

        when_committed(tx, show)

    @overload
    def load(self, step: str, as_type: type[T], *, occurrence: int = 0) -> T: ...
    @overload
    def load(self, step: str, as_type: type[T], *, occurrence: int = 0, default: D) -> T | D: ...
    @overload
    def load(self, step: str, as_type: Any, *, occurrence: int = 0, default: Any = ...) -> Any: ...

    def load(self, step: str, as_type: Any, *, occurrence: int = 0, default: Any = _MISSING) -> Any:
        """Return the saved value of a step. It was read when the checkpoint was opened, so this does not wait.

        Args:
            step: the step's name.
            as_type: the type it is read as. A topic's type is read by the topic, older versions through its upcasters.
            occurrence: which pass through the step, from 0.
            default: returned when there is no such step.

        Raises:
            StepNotSaved: there is no such step, and no default. `("read", 0) in checkpoint.saved` asks beforehand.
            UnknownPayload: it was saved by a newer version of the program.
            BadPayload: the data does not fit the type.

        """
        saved = self._steps.get((step, occurrence))
        if saved is None:
            if default is _MISSING:
                raise StepNotSaved(self.key, step, occurrence)
            return default
        return self._values.decode(saved.envelope, as_type)

    async def clear(self, *, tx: Transaction | None = None) -> None:
        """Delete the steps: the work is done. The head stays, closed, with its epoch.

        The order that loses nothing: first the effect, then the acknowledgement of the job, then this; or all three in
        one transaction. Clearing needs the head's token only, not a lease that is still held. A save afterwards, by the
        same holder, begins the next piece of work under this key.

        Raises:
            LeaseLost: a newer holder has opened the checkpoint. Nothing was changed.

        """
        await self._backend.clear(self.key, self._token, self._keep_closed, tx)
        when_committed(tx, self._steps.clear)


def _sound(key: str, rows: Sequence[StepRow]) -> tuple[list[SavedStep], list[DamagedStep]]:
    """Return the steps before the first damaged one, and what is wrong with the others."""
    sound: list[SavedStep] = []
    damaged: list[DamagedStep] = []
    for row in rows:
        saved = row.saved
        if not row.is_intact(key):
            reason = "its checksum does not match: it was damaged after it was saved"
        elif damaged:
            reason = f"it was saved after step {damaged[0].step!r}, which is damaged"
        else:
            sound.append(saved)
            continue
        damaged.append(DamagedStep(saved.step, saved.occurrence, saved.seq, reason))
    return sound, damaged
