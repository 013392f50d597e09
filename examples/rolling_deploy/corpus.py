"""The real input of the demo: the source files of this machine's Python standard library, dealt into jobs.

The choice depends on the interpreter's files alone, so every process of a run, and every run with the same
interpreter, deals the same jobs.

Left out are

- ``site-packages`` and ``dist-packages``: they differ between environments of one interpreter;
- test directories: many systems install the interpreter without them, they would be half of the input, and
  they hold most of the files that are broken on purpose;
- files that do not parse (templates, other grammars);
- very small files, which hold nothing to compare, and very large ones, which would make one job many times
  longer than another.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DEFAULT_JOBS", "DEFAULT_MODULES", "Group", "deal", "module_path", "stdlib_modules"]

DEFAULT_JOBS = 32
DEFAULT_MODULES = 6

_SKIPPED = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib2to3"})
_SMALLEST = 4_000
_LARGEST = 40_000


@frozen
class Group:
    """One job's input: ``job`` is its name, ``modules`` are paths below the standard library, with ``/``."""

    job: str
    modules: tuple[str, ...]


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def module_path(module: str) -> Path:
    """Where the file of ``module`` (a path below the standard library) is on this machine."""
    return _root() / module


@cache
def stdlib_modules() -> tuple[str, ...]:
    """The files that may be dealt into jobs, sorted by name; whether they parse is not known yet."""
    root = _root()
    found: list[str] = []
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if _SKIPPED.isdisjoint(relative.parts) and _SMALLEST <= path.stat().st_size <= _LARGEST:
            found.append(relative.as_posix())
    return tuple(sorted(found))


def _parses(module: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(module_path(module).read_bytes())
    except (SyntaxError, ValueError):
        return False
    return True


def _spread(modules: tuple[str, ...], wanted: int) -> Iterator[str]:
    """Every ``n``-th module, so that few jobs too span the whole alphabet; then those in between."""
    stride = max(1, len(modules) // wanted)
    for start in range(stride):
        yield from modules[start::stride]


def deal(jobs: int = DEFAULT_JOBS, modules: int = DEFAULT_MODULES) -> tuple[Group, ...]:
    """``jobs`` groups of ``modules`` files each, no file twice.

    Files are dealt by size, back and forth, so that the groups weigh about the same. Raises ``ValueError``
    when a number is too small (at least one job of at least two modules) or when this interpreter has too few
    files.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs}")
    if modules < 2:
        raise ValueError(f"modules must be at least 2, so that there is a pair to compare, not {modules}")
    wanted = jobs * modules
    candidates = stdlib_modules()
    if wanted > len(candidates):
        raise ValueError(
            f"{jobs} jobs of {modules} modules need {wanted} files; this standard library offers {len(candidates)}"
        )
    chosen: list[str] = []
    for module in _spread(candidates, wanted):
        if _parses(module):
            chosen.append(module)
        if len(chosen) == wanted:
            break
    else:
        raise ValueError(f"{wanted} files are needed; only {len(chosen)} of this standard library's can be parsed")
    chosen.sort(key=lambda module: (-module_path(module).stat().st_size, module))
    hands: list[list[str]] = [[] for _ in range(jobs)]
    for round_start in range(0, wanted, jobs):
        dealt = chosen[round_start : round_start + jobs]
        if (round_start // jobs) % 2:
            dealt.reverse()
        for hand, module in zip(hands, dealt, strict=True):
            hand.append(module)
    width = max(3, len(str(jobs)))
    return tuple(Group(f"job-{number:0{width}}", tuple(sorted(hand))) for number, hand in enumerate(hands, 1))
