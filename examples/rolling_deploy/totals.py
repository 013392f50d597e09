"""The aggregator's own tables: the totals, and a line for each time a job was counted.

They are in the store's database, so that a job's effect, its processed mark and the fence are one transaction.
`demo_effect` has no unique index on purpose: it must be able to show a duplicate.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from examples.rolling_deploy.analysis import Figures

if TYPE_CHECKING:
    from otp.engines import Engine, Transaction

_TABLES = (
    "CREATE TABLE IF NOT EXISTS demo_total(figure TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS demo_effect(
        n INTEGER PRIMARY KEY, job TEXT NOT NULL, pod TEXT NOT NULL, epoch INTEGER NOT NULL)""",
)
_ADD = """
INSERT INTO demo_total(figure, value) VALUES (?1, ?2)
ON CONFLICT(figure) DO UPDATE SET value = value + ?2"""
_NOTE = "INSERT INTO demo_effect(job, pod, epoch) VALUES (?, ?, ?)"


async def create_tables(store: Engine[Any]) -> None:
    """Make the tables if they are not there."""
    async with store.transaction() as tx:
        for statement in _TABLES:
            await tx.execute(statement)


async def read_totals(store: Engine[Any]) -> Figures:
    """The totals as they are committed now."""
    async with store.transaction() as tx:
        rows = await tx.execute("SELECT figure, value FROM demo_total")
    return Figures.from_dict({str(figure): int(value) for figure, value in rows})


async def add_to_totals(tx: Transaction, figures: Figures, *, job: str, pod: str, epoch: int) -> None:
    """Add a job's figures to the totals, and note that it was counted."""
    for figure, value in figures.to_dict().items():
        await tx.execute(_ADD, figure, value)
    await tx.execute(_NOTE, job, pod, epoch)


async def read_effects(store: Engine[Any]) -> Counter[str]:
    """How often each job was counted."""
    async with store.transaction() as tx:
        rows = await tx.execute("SELECT job, count(*) FROM demo_effect GROUP BY job")
    return Counter({str(job): int(times) for job, times in rows})
