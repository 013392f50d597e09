"""`tools/environment.py`, on a lock without packages: no index is asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.support import ROOT

SCRIPT = str(ROOT / "tools" / "environment.py")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space in its name, an empty lock and the environment that was made from it."""
    folder = tmp_path_factory.mktemp("new comer")
    (folder / "empty.txt").write_text("")
    done = run(folder, "empty.txt")
    assert done.returncode == 0, done.stderr
    assert "Making a virtual environment in .venv" in done.stdout
    assert "Installing" in done.stdout
    return folder


def run(folder: Path, lock: str, *python: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(python or [SCRIPT]), ".venv", lock]
    env = os.environ | {"PIP_NO_INDEX": "1", "PIP_TARGET": "elsewhere", "PIP_USER": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_silent_and_idle_when_nothing_changed(checkout: Path) -> None:
    done = run(checkout, "empty.txt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_installs_again_when_the_lock_changed(checkout: Path) -> None:
    (checkout / "changed.txt").write_text("# one\n")
    run(checkout, "changed.txt")
    (checkout / "changed.txt").write_text("# two\n")
    done = run(checkout, "changed.txt")
    assert done.returncode == 0, done.stderr
    assert "Installing" in done.stdout
    assert "Making" not in done.stdout


def test_shows_what_pip_says_when_it_fails(checkout: Path) -> None:
    (checkout / "bad.txt").write_text("no-such-package==1 --hash=sha256:" + "0" * 64 + "\n")
    done = run(checkout, "bad.txt")
    assert done.returncode == 1
    assert "No matching distribution found for no-such-package==1" in done.stderr
    assert "Installing" in run(checkout, "bad.txt").stdout, "a failure must not count as done"


def test_makes_a_broken_environment_anew(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "python").unlink()
    done = run(checkout, "empty.txt")
    assert done.returncode == 0, done.stderr
    assert "Making a virtual environment" in done.stdout


def test_says_which_module_python_lacks(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    without = (
        "import importlib.util, runpy, sys\n"
        "find_spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'ensurepip' else find_spec(name)\n"
        f"runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
    )
    done = run(tmp_path, "empty.txt", "-c", without)
    assert done.returncode == 1
    assert "has no module 'ensurepip'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".venv").exists()
