"""Names: who has which, in one tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._errors import NameTaken

if TYPE_CHECKING:
    from ._ref import Ref


@final
class Registry:
    """The registered names of one tree, one holder each: OTP's ``register``, on which :func:`whereis` and others rest.

    A child's name is registered before its init begins, so messages to it can already queue, and released before
    anybody is told of its exit, so whoever hears of the exit can have the name at once.
    """

    __slots__ = ("_holders",)

    def __init__(self) -> None:
        self._holders: dict[str, Ref] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def get(self, name: str) -> Ref | None:
        """Who holds `name` at this moment, or None."""
        return self._holders.get(name)

    def names(self) -> dict[str, Ref]:
        """All names with their holders, as a copy."""
        return dict(self._holders)

    def register(self, name: str, ref: Ref) -> None:
        """Give `name` to `ref`.

        Raises:
            NameTaken: if somebody else holds it; the error says who.
        """
        holder = self._holders.setdefault(name, ref)
        if holder is not ref:
            raise NameTaken(name, holder.path)

    def release(self, name: str, ref: Ref) -> None:
        """Free `name`, if it is `ref` that holds it."""
        if self._holders.get(name) is ref:
            del self._holders[name]
