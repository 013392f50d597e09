"""Bring the virtual environment to what a lock file says; do nothing when it is there already.

Used by the Makefile, with whatever Python 3.11 or later the machine has and nothing but its standard library:

    python3 tools/environment.py VENV LOCK [--project]

`--project` installs the project itself, too, as a link to this folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("venv", "ensurepip", "ssl")
DETOURS = (
    "PIP_CONSTRAINT",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_TARGET",
)  # would install something else, or elsewhere


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Bring a virtual environment to what a lock file says.")
    parser.add_argument("venv", type=Path, metavar="VENV")
    parser.add_argument("lock", type=Path, metavar="LOCK")
    parser.add_argument("--project", action="store_true")
    args = parser.parse_args()

    stamp: Path = args.venv / f"{args.lock.stem}.stamp"
    wanted = fingerprint(args.lock, project=args.project)
    if stamp.exists() and stamp.read_text() == wanted and works(args.venv):
        return 0
    stamp.unlink(missing_ok=True)
    if not works(args.venv) and not create(args.venv):
        return 1
    say(f"Installing the {count(args.lock)} packages of {args.lock} (a minute or so the first time)")
    started = time.monotonic()
    if not pip(args.venv, "--require-hashes", "--requirement", str(args.lock)):
        return 1
    # The build backend is in the lock, so this needs no index.
    if args.project and not pip(args.venv, "--no-deps", "--no-build-isolation", "--editable", "."):
        return 1
    stamp.write_text(wanted)
    say(f"Ready after {time.monotonic() - started:.0f} s")
    return 0


def fingerprint(lock: Path, *, project: bool) -> str:
    """What the environment was made of: it is brought up to date when this changes."""
    parts = [sys.version.encode(), str(Path.cwd()).encode(), lock.read_bytes()]
    if project:
        parts.append(Path("pyproject.toml").read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def works(venv: Path) -> bool:
    """Whether `venv` is an environment of this version of Python, with a pip in it."""
    ask = "import sys, pip; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run([python(venv), "-c", ask], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.split() == [str(part) for part in sys.version_info[:2]]


def create(venv: Path) -> bool:
    """Make an empty environment in `venv`."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        complain(
            f"{sys.executable} has no module {missing[0]!r}, which a virtual environment needs. Debian and "
            "Ubuntu ship it apart: apt install python3-venv. Or name another Python: "
            "make PYTHON=/path/to/python3.12 ..."
        )
        return False
    say(f"Making a virtual environment in {venv} with Python {sys.version.split()[0]}")
    shutil.rmtree(venv, ignore_errors=True)
    return run([base_python(), "-m", "venv", str(venv)])


def base_python() -> str:
    """Return the interpreter behind this one, which may be in the very environment that is made anew."""
    if sys.prefix == sys.base_prefix:
        return sys.executable
    return str(Path(sys.base_prefix, "bin", "python{}.{}".format(*sys.version_info)))


def python(venv: Path) -> str:
    """Return the interpreter of `venv`."""
    return str(venv / "bin" / "python")


def count(lock: Path) -> int:
    """Return how many packages `lock` names."""
    return sum("==" in line for line in lock.read_text().splitlines() if not line.startswith((" ", "#")))


def pip(venv: Path, *args: str) -> bool:
    """Install something; show pip's output only if it fails."""
    quiet = ["--disable-pip-version-check", "--no-input"]
    return run([python(venv), "-m", "pip", *quiet, "install", "--no-user", *args])


def run(command: list[str]) -> bool:
    """Run `command`; show its output only if it fails."""
    env = {name: value for name, value in os.environ.items() if name not in DETOURS}
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        sys.stderr.write(result.stdout)
        complain(f"failed: {shlex.join(command)}")
    return result.returncode == 0


def say(line: str) -> None:
    """Tell the reader what goes on."""
    print(f"-- {line}", flush=True)


def complain(line: str) -> None:
    """Tell the reader why it does not go on."""
    print(f"-- {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
