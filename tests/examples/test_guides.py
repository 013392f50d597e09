"""The code of the guides in docs/ runs, and prints what the page says that it prints.

The Python blocks of a page are one program, run from top to bottom in virtual time: a block may use what those before
it have defined. A ``text`` block right after one is all that it prints, to the last line. A block that begins with the
name of a file in a comment is a program of its own: it is started as a process, gets SIGTERM once it says that it
serves, and prints what is in the ``text`` block, times aside.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from attrs import frozen

from otp import Actor, Alias, ChildContext, PendingCall, Ref, Runtime, SupervisorRef, Timer

ROOT = Path(__file__).parents[2]
GUIDES = ("supervision", "supervisors_in_depth", "actors_in_depth")
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE)
VIRTUAL_TIME = """\
import trio
from trio.testing import MockClock
def _run(async_fn, *args, _real=trio.run, **options):
    return _real(async_fn, *args, **{"clock": MockClock(autojump_threshold=0)} | options)
trio.run = _run
"""
END = "-- end of block {} --"


@frozen
class Block:
    code: str
    output: str | None
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file, if the block is a program of its own."""
        found = re.match(r"# (\w+\.py)\n", self.code)
        return found[1] if found else None


def blocks_of(guide: str) -> list[Block]:
    text = (ROOT / "docs" / f"{guide}.md").read_text()
    blocks = [
        Block(found["code"], found["output"], text.count("\n", 0, found.start("code")) + 1)
        for found in BLOCK.finditer(text)
    ]
    assert len(blocks) == text.count("```python")
    return blocks


def part(number: int, block: Block) -> str:
    """The code that runs a block as if it were a file of its own, and marks the end of what it prints."""
    return f"exec(compile({block.code!r}, 'app.py', 'exec'), globals())\nprint({END.format(number)!r}, flush=True)\n"


def start(script: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", str(script)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


@pytest.mark.parametrize("guide", GUIDES)
def test_the_blocks_of_a_guide_run_and_print_what_it_shows(guide, tmp_path):
    blocks = [block for block in blocks_of(guide) if block.file is None]
    script = tmp_path / f"{guide}.py"
    script.write_text(VIRTUAL_TIME + "".join(part(number, block) for number, block in enumerate(blocks)))
    with start(script) as process:
        try:
            printed, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    for number, block in enumerate(blocks):
        of_block, ended, printed = printed.partition(END.format(number) + "\n")
        assert ended, f"{guide}.md, line {block.line}: {of_block}"
        assert of_block == (block.output or ""), f"{guide}.md, line {block.line}"
    assert printed == ""


@pytest.mark.parametrize(
    ("guide", "block"), [(guide, block) for guide in GUIDES for block in blocks_of(guide) if block.file], ids=str
)
def test_a_service_in_a_guide_serves_until_it_is_told_to_stop(guide, block, tmp_path):
    script = tmp_path / block.file
    script.write_text(block.code)
    lines = []
    with start(script) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(re.sub(r"^\d\d:\d\d:\d\d\.\d{3}", "12:00:00.000", line))
                if line.endswith("otp.service: serving\n"):
                    process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
        finally:
            process.kill()
    assert code == 0, "".join(lines)
    assert "".join(lines) == block.output


def test_supervision_can_be_read_in_twenty_minutes():
    words_per_minute = 200  # of somebody who reads carefully; code counts like prose
    assert len((ROOT / "docs" / "supervision.md").read_text().split()) <= 20 * words_per_minute


def test_no_page_has_code_that_is_not_run():
    run_elsewhere = {"testing"}  # test_testing_guide.py
    with_code = {page.stem for page in (ROOT / "docs").glob("*.md") if "```python" in page.read_text()}
    assert with_code == {*GUIDES, *run_elsewhere}


PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
]


def anchors_of(page: Path) -> set[str]:
    """The names that headings can be linked by: as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page):
    lost = []
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            lost.append(target)
    assert lost == []


def test_each_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    assert [
        page.name
        for page in PAGES
        if page.parent == ROOT / "docs" and page.stem != "README" and f"({page.name})" not in index
    ] == []


WHAT = {
    "self": Actor,
    "ref": Ref,
    "alias": Alias,
    "timer": Timer,
    "pending": PendingCall,
    "context": ChildContext,
    "supervisor": SupervisorRef,
    "runtime": Runtime(),
    "trio": trio,
}
"""What the pages call whom."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_in_passing_is_there(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^\|[^|]*\|", "|", prose, flags=re.MULTILINE)  # what others call it, or what it is about
    mentioned = re.findall(rf"(?<![\w.])({'|'.join(WHAT)})\.([a-z]\w+)", " ".join(re.findall(r"`([^`]+)`", prose)))
    assert [f"{who}.{what}" for who, what in mentioned if not hasattr(WHAT[who], what)] == []
