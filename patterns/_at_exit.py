"""Work is given back even where the process has to be made to exit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

    from otp import ChildContext
    from otp.engines import Engine


@contextmanager
def given_back_at_exit(context: ChildContext, engine: Engine[Any]) -> Generator[None]:
    """Within this block a forced exit first ends the leases that `engine` holds.

    That is the end of a service in which something is stuck: a handler blocks the loop, say, or a child before us in
    the order does not stop. Everything in the tree that could give work back may then wait for that one thing.
    """
    forget = context.runtime.at_exit(engine.give_all_back)
    try:
        yield
    finally:
        forget()
