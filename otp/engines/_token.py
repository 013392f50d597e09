"""What the store compares at each finish: (owner, epoch) of one key."""

from __future__ import annotations

from attrs import frozen


@frozen
class Token:
    """Identifies one holding of one unit of work; compared by the store, never guessed.

    `kind` says which extension function renews it (`Engine.lease_kind`), `key` names the unit within the
    kind, `owner` is the engine's process instance and `epoch` the incarnation, which only ever rises.
    """

    kind: str
    key: str
    owner: str
    epoch: int
