"""Numbered migrations: idempotent, compared with what is found, safe when many processes start at once.

Each component (`engine`, `queues`, `checkpoints` ...) has its own chain 1, 2, 3 ... The table `hf_schema`
keeps for each applied one a digest of its statements. A database may be *newer* than the program, since in
a rolling deploy the new pods migrate while the old ones still work. That is accepted if every migration
the program does not know says `compatible_from <=` the last one it does know: that is how a migration
declares itself additive (new tables, new columns with a default, new indexes).
"""

from __future__ import annotations

import hashlib

from attrs import field, frozen


def _statements(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@frozen(kw_only=True)
class Migration:
    """One step of a component's schema.

    Never edit one that was released: add another. `number` is its place in the chain, from 1, `statements` are run in
    order. `compatible_from` is the lowest number of the last
    migration a program may know and still work correctly with the tables as they are after this one; an
    additive migration leaves it at 1, one that older programs cannot live with names its own number.
    """

    number: int
    statements: tuple[str, ...] = field(converter=_statements)
    compatible_from: int = 1

    @property
    def digest(self) -> str:
        """Of the statements, without their white space."""
        plain = ";".join(" ".join(statement.split()) for statement in self.statements)
        return hashlib.sha256(plain.encode()).hexdigest()[:16]

    def __attrs_post_init__(self) -> None:
        if self.number < 1 or not 1 <= self.compatible_from <= self.number:
            raise ValueError(
                f"migration {self.number} with compatible_from={self.compatible_from}: from 1 to its number"
            )
        if not self.statements:
            raise ValueError(f"migration {self.number} has no statements")
