"""What a job computes: the steps, as plain functions that a worker process can run.

A step takes the names of the group's modules and reads the files itself: nothing large crosses a process
boundary or gets into a checkpoint. What it returns is small, consists of integers, and depends on the files
and the interpreter alone: not on the process, the hash seed, the clock or the work factor. All figures can be
added up over jobs.

``compare`` does the heavy part. Each pair of modules is compared by its shingles (every run of a few tokens);
the pairs are cut into slices, each of which is a step. The *work factor* says how often a slice is computed:
the figures are those of the first round, and each further round must come to the same, or the step raises. So
more work can never change a figure.
"""

from __future__ import annotations

import ast
import io
import os
import time
import tokenize as _tokenize
import warnings
import zlib

# At run time: the library reads the steps' annotations, to know what a saved result is to become again.
from collections.abc import Iterable, Mapping, Sequence  # noqa: TC003
from itertools import combinations
from typing import cast

from attrs import asdict, fields, frozen

from examples.rolling_deploy.corpus import Group, module_path

__all__ = [
    "COMPARE_SLICES",
    "STEP_SECONDS",
    "Comparison",
    "Figures",
    "Sources",
    "Syntax",
    "Tokens",
    "calibrate",
    "compare",
    "compare_step",
    "parse",
    "read",
    "step_aside",
    "step_names",
    "summarise",
    "tokenize",
]

COMPARE_SLICES = 5
"""Into how many steps the comparison of a group is cut."""

STEP_SECONDS = 0.3
"""What one slice should cost on an undisturbed core; three pods on two cores make about twice that of it."""

_SHINGLE = 5
_SIMILAR_PERMILLE = 50
_LAYOUT = frozenset(
    {
        _tokenize.ENCODING,
        _tokenize.NL,
        _tokenize.NEWLINE,
        _tokenize.INDENT,
        _tokenize.DEDENT,
        _tokenize.ENDMARKER,
    }
)


@frozen
class Sources:
    """Of the step ``read``. By ``digest`` (CRC-32) ``summarise`` notices a file that was changed."""

    modules: int
    bytes: int
    lines: int
    digest: int


@frozen
class Tokens:
    """Of the step ``tokenize``: all tokens but layout, and of these the comments, names and strings."""

    tokens: int
    comments: int
    names: int
    strings: int


@frozen
class Syntax:
    """Of the step ``parse``: nodes of the syntax trees, and of these the function and class definitions."""

    nodes: int
    functions: int
    classes: int


@frozen
class Comparison:
    """Of one slice of ``compare``.

    ``similarity`` is the sum over the pairs of shared shingles per thousand of all shingles of the pair,
    rounded down for each pair; ``similar`` counts the pairs of at least 50 per thousand.
    """

    pairs: int
    shared: int
    similarity: int
    similar: int


@frozen
class Figures:
    """What a job comes to, and, added up, the whole run."""

    modules: int = 0
    bytes: int = 0
    lines: int = 0
    tokens: int = 0
    comments: int = 0
    names: int = 0
    strings: int = 0
    nodes: int = 0
    functions: int = 0
    classes: int = 0
    pairs: int = 0
    shared: int = 0
    similarity: int = 0
    similar: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, name) + getattr(other, name) for name in _FIGURE_NAMES))

    def to_dict(self) -> dict[str, int]:
        """The figures by name, in a fixed order."""
        return cast("dict[str, int]", asdict(self))

    @classmethod
    def from_dict(cls, figures: Mapping[str, int]) -> Figures:
        """The inverse of :meth:`to_dict`. Raises ``TypeError`` for unknown names."""
        return cls(**figures)


_FIGURE_NAMES: tuple[str, ...] = tuple(field.name for field in fields(Figures))


def step_aside() -> None:
    """Let everything else on this machine go first: called once in each worker process.

    Pods compute on all cores and more; their event loops, and so their heartbeats, probes and hand-overs, must not wait
    for that.
    """
    os.nice(10)


def compare_step(part: int) -> str:
    """The name of the step that compares slice ``part`` (from 0)."""
    return f"compare-{part + 1}"


def step_names(slices: int = COMPARE_SLICES) -> tuple[str, ...]:
    """The names of a job's steps, in order."""
    return ("read", "tokenize", "parse", *(compare_step(part) for part in range(slices)), "summarise")


def read(modules: Sequence[str]) -> Sources:
    """Measure the files. Raises ``OSError`` when one cannot be read."""
    size = lines = digest = 0
    for module in modules:
        data = module_path(module).read_bytes()
        size += len(data)
        lines += data.count(b"\n")
        digest = zlib.crc32(data, digest)
    return Sources(len(modules), size, lines, digest)


def _tokens(module: str) -> Iterable[_tokenize.TokenInfo]:
    data = io.BytesIO(module_path(module).read_bytes())
    return (token for token in _tokenize.tokenize(data.readline) if token.type not in _LAYOUT)


def tokenize(modules: Sequence[str]) -> Tokens:
    """Count the tokens. Raises ``SyntaxError`` or ``tokenize.TokenError`` for a file that is no Python."""
    total = comments = names = strings = 0
    for module in modules:
        for token in _tokens(module):
            total += 1
            comments += token.type == _tokenize.COMMENT
            names += token.type == _tokenize.NAME
            strings += token.type == _tokenize.STRING
    return Tokens(total, comments, names, strings)


def parse(modules: Sequence[str]) -> Syntax:
    """Count what the syntax trees hold. Raises ``SyntaxError`` for a file that is no Python."""
    nodes = functions = classes = 0
    for module in modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own old escapes are not our subject
            tree = ast.parse(module_path(module).read_bytes())
        for node in ast.walk(tree):
            nodes += 1
            functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            classes += isinstance(node, ast.ClassDef)
    return Syntax(nodes, functions, classes)


def _words(module: str) -> list[bytes]:
    return [token.string.encode() for token in _tokens(module) if token.type != _tokenize.COMMENT]


def _shingles(words: Sequence[bytes]) -> frozenset[int]:
    # CRC-32 and not hash(), which differs from process to process.
    return frozenset(zlib.crc32(b"\0".join(words[i : i + _SHINGLE])) for i in range(len(words) - _SHINGLE + 1))


def _slice(pairs: Iterable[tuple[Sequence[bytes], Sequence[bytes]]]) -> Comparison:
    count = shared = similarity = similar = 0
    for first, second in pairs:
        one, other = _shingles(first), _shingles(second)
        both = len(one & other)
        permille = 1000 * both // max(1, len(one | other))
        count += 1
        shared += both
        similarity += permille
        similar += permille >= _SIMILAR_PERMILLE
    return Comparison(count, shared, similarity, similar)


def _dealt(modules: Sequence[str], part: int, slices: int) -> list[tuple[str, str]]:
    """The pairs of a slice: dealt from the largest to the smallest, back and forth."""
    sizes = {module: module_path(module).stat().st_size for module in modules}
    pairs = sorted(combinations(sorted(modules), 2), key=lambda pair: (-sizes[pair[0]] - sizes[pair[1]], pair))
    turns = [*range(slices), *reversed(range(slices))]
    return [pair for number, pair in enumerate(pairs) if turns[number % len(turns)] == part]


def compare(modules: Sequence[str], part: int = 0, slices: int = COMPARE_SLICES, work_factor: int = 1) -> Comparison:
    """Compare the pairs of slice ``part`` (from 0) of ``slices``, ``work_factor`` times over.

    The pairs are dealt to the slices by size, so that the slices take about as long. Raises ``ValueError`` for
    numbers out of range, and ``RuntimeError`` when two rounds differ.
    """
    if not 0 <= part < slices:
        raise ValueError(f"part must be in 0..{slices - 1}, not {part}")
    if work_factor < 1:
        raise ValueError(f"work_factor must be at least 1, not {work_factor}")
    mine = _dealt(modules, part, slices)
    words = {module: _words(module) for module in sorted({module for pair in mine for module in pair})}
    pairs = [(words[one], words[other]) for one, other in mine]
    figures = _slice(pairs)
    for _ in range(work_factor - 1):
        if _slice(pairs) != figures:
            raise RuntimeError(f"two rounds of slice {part} differ")
    return figures


def summarise(
    modules: Sequence[str],
    sources: Sources,
    tokens: Tokens,
    syntax: Syntax,
    comparisons: Sequence[Comparison],
) -> Figures:
    """Put a job's figures together from what its steps saved.

    Raises ``RuntimeError`` when the files are no longer those that ``read`` saw: the figures would be of no
    file.
    """
    if read(modules) != sources:
        raise RuntimeError("the files were changed while the job was under way")
    return Figures(
        modules=sources.modules,
        bytes=sources.bytes,
        lines=sources.lines,
        **asdict(tokens),
        **asdict(syntax),
        pairs=sum(each.pairs for each in comparisons),
        shared=sum(each.shared for each in comparisons),
        similarity=sum(each.similarity for each in comparisons),
        similar=sum(each.similar for each in comparisons),
    )


def calibrate(
    groups: Sequence[Group],
    target: float = STEP_SECONDS,
    *,
    slices: int = COMPARE_SLICES,
    samples: int = 3,
    most: int = 10_000,
) -> int:
    """The work factor with which one slice takes about ``target`` seconds of an undisturbed core here.

    Measures one round of a few slices in this process's CPU time and takes the median, so that one odd group
    or a busy neighbour does not decide. Between 1 and ``most``.
    """
    if not groups:
        raise ValueError("there is no group to measure")
    rounds: list[float] = []
    fixed: list[float] = []
    for group in groups[:: max(1, len(groups) // samples)][:samples]:
        start = time.process_time()
        compare(group.modules, 0, slices, 1)
        once = time.process_time()
        compare(group.modules, 0, slices, 3)
        thrice = time.process_time()
        rounds.append(max(1e-6, ((thrice - once) - (once - start)) / 2))
        fixed.append(max(0.0, (once - start) - rounds[-1]))
    one_round, overhead = sorted(rounds)[len(rounds) // 2], sorted(fixed)[len(fixed) // 2]
    return max(1, min(most, round((target - overhead) / one_round)))
