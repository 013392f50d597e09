"""docs/otp_rows.md and the tests that it names agree: no row without a test, no such test without its row."""

import ast
import re
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
SUPERVISOR_ROWS = 93
GEN_SERVER_CASES = 58


@frozen
class Row:
    cases: tuple[str, ...]
    number: int | None  # rows of supervisor_SUITE only
    mark: str
    why: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number or ''} {self.cases[0]}".strip()

    def claims(self, test: str) -> bool:
        """Whether `test` says by its name that it is for this row."""
        if self.number is not None:
            return self.number in numbers_in(test)
        return any(case in self.cases for case in cases_in(test))


def numbers_in(test: str) -> list[int]:
    """The rows in a name: ``test_row_031_x``, ``test_rows_032_041_x``, ``test_rows_045_to_050_x``."""
    found = re.match(r"test_rows?((?:_(?:to_)?\d{3})+)_", test)
    numbers: list[int] = []
    for word in found[1].split("_")[1:] if found else []:
        if word == "to":
            numbers.append(-1)
        elif numbers and numbers[-1] == -1:
            numbers.pop()
            numbers += range(numbers[-1] + 1, int(word) + 1)
        else:
            numbers.append(int(word))
    return numbers


def cases_in(test: str) -> list[str]:
    """The cases of gen_server_SUITE in a name: the longest that it begins with, and after each ``_and_``.

    ``stop`` is short for all the cases ``stop1`` to ``stop7`` that apply.
    """
    if not test.startswith("test_gen_server_"):
        return []
    found: list[str] = []
    for part in test.removeprefix("test_gen_server_").split("_and_"):
        names = {case for case in CASES if f"{part}_".startswith((f"{case}_", f"{case.rstrip('0123456789')}_"))}
        longest = max((len(name.rstrip("0123456789")) for name in names), default=0)
        found += [name for name in names if len(name.rstrip("0123456789")) == longest]
    return found


def read_table() -> list[Row]:
    rows: list[Row] = []
    for line in (ROOT / "docs" / "otp_rows.md").read_text().splitlines():
        if not line.startswith("| ") or line.startswith(("| row |", "| case |")):
            continue
        *number, cases, _, mark, tests = (cell.strip() for cell in line.strip("|").split("|"))
        mark, _, why = mark.partition(": ")
        names = tuple(re.findall(r"`(\w+)`", tests))
        rows.append(Row(tuple(re.findall(r"`(\w+)`", cases)), int(number[0]) if number else None, mark, why, names))
    return rows


def named_after_rows() -> set[str]:
    """The tests whose names say that they are for a row. The files are read, not run."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and re.match(r"test_(rows?_\d|gen_server_)", node.name)
    }


ROWS = read_table()
CASES = [case for row in ROWS if row.number is None and row.mark != "N" for case in row.cases]
TESTS = named_after_rows()


def test_no_row_is_missing():
    numbers = [row.number for row in ROWS if row.number is not None]
    assert numbers == list(range(1, SUPERVISOR_ROWS + 1))
    cases = [case for row in ROWS if row.number is None for case in row.cases]
    assert len(set(cases)) == len(cases) == GEN_SERVER_CASES


def test_each_mark_says_what_it_must():
    assert [str(row) for row in ROWS if row.mark not in {"T", "A", "N"}] == []
    assert [str(row) for row in ROWS if (row.mark == "T") != (row.why == "")] == []


def test_each_row_that_applies_is_shown_by_tests_that_exist():
    assert [str(row) for row in ROWS if row.mark in {"T", "A"} and not row.tests] == []
    assert [str(row) for row in ROWS if row.mark == "N" and row.tests] == []
    assert [name for row in ROWS for name in row.tests if name not in TESTS] == []


def test_each_row_names_its_own_tests():
    assert [(str(row), name) for row in ROWS for name in row.tests if not row.claims(name)] == []


def test_each_test_of_a_row_is_in_the_table():
    assert [name for name in sorted(TESTS) if not numbers_in(name) and not cases_in(name)] == []
    assert [
        (str(row), name) for row in ROWS for name in sorted(TESTS) if row.claims(name) and name not in row.tests
    ] == []


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_row_031_one_for_one_escalation", [31]),
        ("test_rows_032_041_groups", [32, 41]),
        ("test_rows_045_to_047_050_normal", [45, 46, 47, 50]),
        ("test_row_of_chairs", []),
    ],
)
def test_names_are_read_like_this(name, numbers):
    assert numbers_in(name) == numbers
