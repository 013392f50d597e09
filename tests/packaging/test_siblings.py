"""Another package of one of our names, somewhere before ours on the path."""

import shutil
from pathlib import Path

import pytest

from tests.packaging.support import PACKAGES, Python

RUNS = "open('stranger-ran', 'w')\n"  # a stranger may do anything: it must not be run


def put(folder: Path, path: str, text: str = RUNS) -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refusal(python: Python, cwd: Path, package: str) -> str:
    """Import `package` in `cwd`; return the message of the one ImportError that must come."""
    done = python(f"import {package}")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("Traceback") == 1, done.stderr
    assert not (cwd / "stranger-ran").exists()
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: "), done.stderr
    return last


@pytest.mark.parametrize(
    ("package", "sibling", "path"),
    [
        ("queues", "otp", "otp.py"),
        ("checkpoints", "otp", "otp/__init__.py"),
        ("patterns", "otp", "otp.py"),
        ("patterns", "queues", "queues/__init__.py"),
        ("patterns", "checkpoints", "checkpoints.py"),
    ],
)
def test_stranger_is_named_and_not_run(python: Python, cwd: Path, package: str, sibling: str, path: str) -> None:
    file = put(cwd, path)
    message = refusal(python, cwd, package)
    assert f"{package!r} needs holdfast's own package {sibling!r}, but Python finds {file} first" in message
    assert "rename it, or take its folder off sys.path" in message


def test_stranger_that_this_python_cannot_compile(python: Python, cwd: Path) -> None:
    file = put(cwd, "queues.py", "print 'Python 2'\n")
    assert f"Python finds {file} first" in refusal(python, cwd, "patterns")


def test_stranger_that_was_imported_before(python: Python, cwd: Path) -> None:
    file = put(cwd, "queues.py", "")
    done = python("import queues, patterns")
    assert f"Python finds {file} first" in done.stderr.splitlines()[-1]


def test_stranger_made_at_run_time(python: Python) -> None:
    done = python("import sys, types; sys.modules['otp'] = types.ModuleType('otp'); import queues")
    assert "Python finds sys.modules['otp'] first" in done.stderr.splitlines()[-1]


def test_folder_without_init_is_a_stranger_when_ours_is_gone(python: Python, installed: Path, cwd: Path) -> None:
    put(cwd, "queues/client.py")
    shutil.rmtree(installed / "queues")
    assert f"Python finds {cwd / 'queues'} first" in refusal(python, cwd, "patterns")


@pytest.mark.parametrize("name", PACKAGES)
def test_folder_of_data_is_no_hindrance(python: Python, cwd: Path, name: str) -> None:
    # Without an __init__ a folder is only the start of a namespace package: a regular one later on wins.
    put(cwd, f"{name}/epoch-12.bin", "data")
    done = python(f"import patterns, {name}; print({name}.__file__)")
    assert done.returncode == 0, done.stderr
    assert "site packages" in done.stdout


def test_strangers_of_packages_that_are_not_needed_are_no_hindrance(python: Python, cwd: Path) -> None:
    for name in ("queues", "checkpoints", "patterns"):
        put(cwd, f"{name}/__init__.py")
    done = python("import otp, otp.engines")
    assert done.returncode == 0, done.stderr
    assert not (cwd / "stranger-ran").exists()


def test_another_distribution_installed_over_ours(python: Python, installed: Path, cwd: Path) -> None:
    file = put(installed, "queues/__init__.py")
    put(installed, "queues-0.6.3.dist-info/METADATA", "Metadata-Version: 2.1\nName: queues\nVersion: 0.6.3\n")
    put(installed, "queues-0.6.3.dist-info/RECORD", "queues/__init__.py,,\n")
    message = refusal(python, cwd, "patterns")
    assert str(file) in message
    assert "another distribution (queues)" in message
    assert "pip install --force-reinstall holdfast" in message


def test_another_distribution_took_our_init_along(python: Python, installed: Path, cwd: Path) -> None:
    (installed / "queues" / "__init__.py").unlink()
    message = refusal(python, cwd, "patterns")
    assert str(installed / "queues") in message
    assert "reinstall holdfast" in message


def test_sibling_is_missing(python: Python, installed: Path, cwd: Path) -> None:
    shutil.rmtree(installed / "otp")
    message = refusal(python, cwd, "queues")
    assert "'otp', but there is none: reinstall holdfast" in message


def test_without_source(python: Python, installed: Path, cwd: Path) -> None:
    done = python(f"import compileall; compileall.compile_dir({str(installed)!r}, legacy=True, quiet=1)", cwd=cwd)
    assert done.returncode == 0, done.stderr
    for source in installed.rglob("*.py"):
        source.unlink()
    done = python("import patterns; print(patterns.__file__)")
    assert done.returncode == 0, done.stderr
    assert "__init__.pyc" in done.stdout


def test_from_a_zip_file(python: Python, wheel: Path) -> None:
    done = python(f"import sys; sys.path.insert(1, {str(wheel)!r}); import patterns; print(patterns.__file__)")
    assert done.returncode == 0, done.stderr
    assert ".whl" in done.stdout


def test_the_very_first_import_is_the_strangers(python: Python, cwd: Path) -> None:
    # Nothing of ours runs here. The documentation tells how to find out.
    file = put(cwd, "patterns/__init__.py", "")
    done = python("import patterns; print(patterns.__file__)")
    assert done.stdout.strip() == str(file)
