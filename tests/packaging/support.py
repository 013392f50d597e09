import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("otp", "queues", "checkpoints", "patterns")

Python = Callable[..., subprocess.CompletedProcess[str]]


def run_python(code: str, *, installed: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in `cwd` with our packages from `installed` and everybody else's from the environment."""
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(installed), sysconfig.get_path("purelib")]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-S", "-c", code]  # -S leaves out the .pth file that leads to this checkout
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
