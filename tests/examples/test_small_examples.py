"""The small examples and the README's run as scripts, and show what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))
SHOWN = {
    "queue_consumer": ["resized a.jpg at attempt 1", "resized b.jpg at attempt 2"],
    "checkpointed_actor": [
        "step: split",
        "goes on with ['what', 'must', 'last', 'is', 'held', 'outside'] 1",
        "6 words",
    ],
    "durable_inbox": [
        "entry 1, epoch 1: the total is 5",
        "entry 2, epoch 1: the total is 12",
    ],
    "only_where_leased": [
        "pod 1 polls the feed",
        "pod 1 polls no more",
        "pod 2 polls the feed",
        "pod 2 polls no more",
    ],
    "supervision": [
        "migrated, once",
        "tick",
        "counter: 10 15",
        "counter crashed: ZeroDivisionError('integer division or modulo by zero')",
        "tick",
        "counter: 10",
    ],
}


def output_of(*command: str) -> list[str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_all_are_tested():
    assert sorted(SHOWN) == EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_is_short(example):
    assert len((ROOT / "examples" / f"{example}.py").read_text().splitlines()) < 40


@pytest.mark.parametrize("example", SHOWN)
def test_it_shows_what_it_says(example):
    assert output_of("-m", f"examples.{example}") == SHOWN[example]


@pytest.mark.parametrize("example", sorted(SHOWN.keys() - {"supervision"}))
def test_on_a_given_store(example, tmp_path):
    assert output_of("-m", f"examples.{example}", f"sqlite:///{tmp_path}/store.db") == SHOWN[example]


def test_the_readmes_example(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "readme.py"
    script.write_text(code.replace("sqlite:///greetings.db", f"sqlite:///{tmp_path}/greetings.db"))
    assert output_of(str(script)) == ["hello world, attempt 1"]
