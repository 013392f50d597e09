import functools
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.support import ROOT, Python, run_python


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel. The build backend is in the lock, so this asks no index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """A folder with what an installation puts into site-packages, to be changed at will."""
    folder = tmp_path / "site packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "working directory"
    folder.mkdir()
    return folder


@pytest.fixture
def python(installed: Path, cwd: Path) -> Python:
    """Run Python code in `cwd` as somebody who has installed the wheel."""
    return functools.partial(run_python, installed=installed, cwd=cwd)
