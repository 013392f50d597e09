"""Many copies of one child, and by a key always the same one of them (Elixir's ``PartitionSupervisor``).

For what one child would be the bottleneck of, and whose work falls apart by a key: a cache, a counter, or a dynamic
supervisor that starts and stops very many instances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from zlib import crc32

from attrs import evolve

from . import _checks as checks
from ._spec import Backoff, ChildSpec, Supervisor

if TYPE_CHECKING:
    from ._ref import Ref
    from ._supervisor_ref import SupervisorRef

Key: TypeAlias = str | bytes | int


def partitioned(
    spec: ChildSpec, partitions: int, *, intensity: int = 3, period: float = 5.0, backoff: Backoff | None = None
) -> Supervisor:
    """Make a supervisor of `partitions` copies of one child, each restarted alone; :func:`partition` finds one.

    ::

        caches = child(partitioned(child(Cache), 8), id="caches")
        ...
        partition(root.supervisor("caches"), "user-7").send(Forget())

    The copies have the ids ``Cache:0``, ``Cache:1`` and so on, and likewise their names, if `spec` has one. A copy that
    needs to know which it is finds that in its context. The other arguments are those of :class:`Supervisor`. (Elixir's
    ``PartitionSupervisor``.)

    Raises:
        TypeError: if `spec` is not what :func:`child` returns, or cannot be started without arguments.
        ValueError: if `partitions` is not a whole number >= 1, or another argument is bad.
    """
    checks.instance("spec", spec, ChildSpec, "what child() returns")
    checks.whole("partitions", partitions, least=1)
    copies = [
        evolve(spec, id=f"{spec.id}:{number}", name=None if spec.name is None else f"{spec.name}:{number}")
        for number in range(partitions)
    ]
    return Supervisor(copies, intensity=intensity, period=period, backoff=backoff)


def partition(supervisor: SupervisorRef, key: Key) -> Ref:
    """The copy that is responsible for `key`: always the same one, while it lives.

    Args:
        supervisor: One that runs what :func:`partitioned` made.
        key: See :func:`partition_id`, which this asks.

    Raises:
        NotAlive: if that copy is not alive at this moment; no other stands in for it.
        ChildNotFound: if that copy was deleted, or is temporary and has ended.
        TypeError: if `supervisor` runs something else, or the key is of another type.
    """
    return supervisor.ref(partition_id(supervisor.spec, key))


def partition_id(spec: Supervisor, key: Key) -> str:
    """The id of the copy that is responsible for `key`, in what :func:`partitioned` made.

    For copies that are supervisors themselves: ``caches.supervisor(partition_id(caches.spec, "user-7"))``.

    Args:
        spec: What :func:`partitioned` made, or, as it is now, the `spec` of the :class:`SupervisorRef` that runs it.
        key: A number goes by its remainder, text and bytes by a checksum. The same key leads to the same number in
            every process and every version of Python, but to another when the number of copies changes.

    Raises:
        TypeError: if `spec` is something else, or the key is of another type.
    """
    match key:
        case bool():
            raise TypeError(f"key must be a str, bytes or int, not {key!r}")
        case int():
            hashed = key
        case str():
            hashed = crc32(key.encode(errors="surrogatepass"))  # names of files may be such
        case bytes():
            hashed = crc32(key)
        case _:
            raise TypeError(f"key must be a str, bytes or int, not {key!r}")
    children = spec.children
    number = hashed % len(children) if children else 0
    if not children or not children[number].id.endswith(f":{number}"):
        raise TypeError(f"spec must be what partitioned() made, not {spec!r}")
    return children[number].id
