"""What this process remembers of the store follows the store: after the commit, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp.engines import Transaction


def when_committed(tx: Transaction | None, do: Callable[[], object]) -> None:
    """Call `do` now, or once `tx` is committed if the change was part of one."""
    if tx is None:
        do()
        return

    def ended(committed: bool) -> None:  # noqa: FBT001  the engine calls it
        if committed:
            do()

    tx.on_end(ended)
