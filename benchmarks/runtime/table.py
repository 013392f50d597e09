"""The rows of a benchmark, and how they are shown."""

import platform

import attrs
import trio
from rich.console import Console
from rich.table import Table


@attrs.frozen(kw_only=True)
class Row:
    """One line: what was measured, the figures of both sides, their ratio (or one figure), and what it should be.

    Without a `must` the row is there for comparison only.
    """

    what: str
    ours: str
    other: str = ""
    value: float | None = None
    """What is compared with `must` and `aim`; None when it could not be measured."""
    unit: str = "x"
    must: float | None = None
    aim: float | None = None
    most: bool = False
    """Whether `must` and `aim` are the most that it may be, rather than the least."""

    @property
    def missed(self) -> bool:
        """Whether it is not what it must be; a row that could not be measured is not."""
        return self.must is not None and self.value is not None and not self._reaches(self.must)

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.must is None:
            return ""
        if self.value is None:
            return "not measured"
        if self.missed:
            return "[red]missed[/red]"
        return "[green]aim[/green]" if self.aim is not None and self._reaches(self.aim) else "[green]met[/green]"

    def _reaches(self, goal: float) -> bool:
        assert self.value is not None
        return self.value <= goal if self.most else self.value >= goal

    def figure(self, value: float | None) -> str:
        """A value of this row as it is shown."""
        if value is None:
            return ""
        return f"{value:.3g}{self.unit}" if self.unit in "x%" else f"{value:.2f} {self.unit}"


def show(title: str, rows: list[Row]) -> None:
    """Print the table, as wide as it has to be when it goes to a file."""
    python = f"{platform.python_implementation()} {platform.python_version()}, trio {trio.__version__}"
    table = Table(title=f"{title} ({python})", title_justify="left", title_style="bold")
    for heading in ("what", "ours", "the other", "ratio", "must", "aim", ""):
        table.add_column(heading, justify="left" if heading in ("what", "") else "right")
    for row in rows:
        sign = "<= " if row.most else ""
        goals = [sign + row.figure(goal) if goal is not None else "" for goal in (row.must, row.aim)]
        table.add_row(row.what, row.ours, row.other, row.figure(row.value), *goals, row.verdict)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 150
    console.print(table)
