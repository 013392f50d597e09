"""The examples of docs/testing.md are tests, and pass; so they are what a user would run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number, tmp_path):
    block = BLOCKS[number]
    path = tmp_path / "test_block.py"
    path.write_text(block)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # not this project's settings: no plugin is needed
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:trio", "--strict-markers"]
    done = subprocess.run(
        [*command, "-W", "error", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{block.count('def test_')} passed" in done.stdout


def test_there_are_some():
    assert len(BLOCKS) == 3
