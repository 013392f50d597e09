"""Which implementation belongs to an engine."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, cast

from attrs import frozen

from otp.engines import Engine

from ._backend import CheckpointBackend, InboxBackend, NameBackend


@frozen
class Backends:
    """What a kind of engine brings for this package.

    Each is called with the engine when a handle is made, which may be before the engine is open.
    """

    names: Callable[[Engine[Any]], NameBackend]
    checkpoints: Callable[[Engine[Any]], CheckpointBackend]
    inboxes: Callable[[Engine[Any]], InboxBackend]


# By name and loaded late: `import checkpoints` loads no client library.
_OURS: Final = {"memory": "checkpoints._memory", "sqlite": "checkpoints._sqlite"}
_known: dict[str, Backends] = {}


def register_backends(kind: str, backends: Backends) -> None:
    """Let leases, checkpoints and inboxes be kept in engines of another kind (`Engine.kind`).

    Raises:
        ValueError: the kind is taken already.

    """
    if kind in _OURS or kind in _known:
        raise ValueError(f"engines of kind {kind!r} have backends already")
    _known[kind] = backends


def backends_for(engine: Engine[Any]) -> Backends:
    """Return what keeps things in this engine."""
    if not isinstance(engine, Engine):
        raise TypeError(f"engine must be an Engine (see otp.engines.engine_for), not {engine!r}")
    found = _known.get(engine.kind)
    if found is None:
        module = _OURS.get(engine.kind)
        if module is None:
            known = ", ".join(sorted({*_OURS, *_known}))
            raise ValueError(f"no leases, checkpoints and inboxes in engines of kind {engine.kind!r}; known: {known}")
        found = _known[engine.kind] = cast("Backends", import_module(module).BACKENDS)
    return found
