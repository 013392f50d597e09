"""Messages and calls by name: to whoever has a role at this moment.

Names belong to one tree. Which one that is follows from where these are called: within a supervised task or the body of
:func:`open_supervisor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._call import DEFAULT_TIMEOUT, Call
from ._errors import NotAlive
from ._life import current_life, life_at
from ._pending import PendingCall
from ._ref import Ref

if TYPE_CHECKING:
    from ._life import Life
    from ._mailbox import Box

R = TypeVar("R")


def whereis(name: str) -> Ref | None:
    """The ref of whoever holds the registered `name` at this moment, or None. OTP's ``whereis``.

    Only within a supervised task or the body of :func:`open_supervisor`; names belong to one tree.
    """
    return current_life().runtime.registry.get(name)


def send(target: str | Ref, message: object) -> None:
    """:meth:`Ref.send` to a ref, or to whoever holds a name at this moment (:exc:`NotAlive` if nobody does)."""
    _resolve(target).send(message)


@overload
async def call(target: str | Ref, request: Call[R], *, timeout: float = DEFAULT_TIMEOUT) -> R: ...
@overload
async def call(target: str | Ref, request: object, *, timeout: float = DEFAULT_TIMEOUT) -> Any: ...
async def call(target: str | Ref, request: object, *, timeout: float = DEFAULT_TIMEOUT) -> Any:
    """:meth:`Ref.call` to a ref, or to whoever holds a name at this moment (:exc:`NotAlive` if nobody does)."""
    return await _resolve(target).call(request, timeout=timeout)


@overload
def request(target: str | Ref, request: Call[R]) -> PendingCall[R]: ...
@overload
def request(target: str | Ref, request: object) -> PendingCall[Any]: ...
def request(target: str | Ref, request: object) -> PendingCall[Any]:
    """:meth:`Ref.request` to a ref, or to whoever holds a name at this moment; that nobody does is in the handle."""
    try:
        return _resolve(target).request(request)
    except NotAlive as error:
        return PendingCall(request, None, error)


def box_of(target: Ref | str) -> Box:
    """Where messages to `target` go."""
    return _resolve(target)._box  # pyright: ignore[reportPrivateUsage]


def life_behind(target: Ref | str) -> Life | None:
    """Whose ref it is, or who holds the name at this moment, if anybody does."""
    ref = whereis(target) if isinstance(target, str) else target
    return None if ref is None else life_at(ref)


def _resolve(target: str | Ref) -> Ref:
    if isinstance(target, Ref):
        return target
    found = whereis(target)
    if found is None:
        raise NotAlive(target)
    return found
