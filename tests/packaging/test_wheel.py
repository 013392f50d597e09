import email
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.support import PACKAGES, ROOT


def test_top_levels(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {*PACKAGES, "_holdfast.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_that_it_is_typed(wheel: Path, package: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert f"{package}/py.typed" in archive.namelist()
        assert f"{package}/__init__.py" in archive.namelist()


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(path))
    core = {Requirement(line).name for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert core == {"attrs", "trio"}
    assert metadata["License-Expression"] == "MIT"


# The locks are what pyproject.toml asks for.


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    found = [Requirement(line.removesuffix("\\")) for line in lines if line and not line.startswith(("#", " "))]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in found}


def requirements(*names: str) -> list[Requirement]:
    """What the named extras and dependency groups ask for, with what they include, and the core."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tables = project["project"]["optional-dependencies"] | project["dependency-groups"]
    todo = [*names]
    found = [Requirement(line) for line in project["project"]["dependencies"]]
    for name in todo:
        for line in tables[name]:
            if isinstance(line, dict):
                todo.append(line["include-group"])
            elif (one := Requirement(line)).name == "holdfast":
                todo.extend(one.extras)
            else:
                found.append(one)
    return found


@pytest.mark.parametrize(
    ("lock", "names"),
    [
        ("demo", ["demo"]),
        ("test", ["demo", "postgres", "redis", "nats", "test"]),
        ("dev", ["demo", "postgres", "redis", "nats", "dev"]),
        ("bench", ["demo", "postgres", "redis", "nats", "bench"]),
    ],
)
def test_lock_satisfies_pyproject(lock: str, names: list[str]) -> None:
    pinned = pins(lock)
    for one in requirements(*names):
        assert one.specifier.contains(pinned[canonicalize_name(one.name)]), f"run `make lock`: {one}"


def test_locks_agree_so_that_one_environment_serves_all() -> None:
    assert pins("demo").items() <= pins("test").items() <= pins("dev").items()
    bench, dev = pins("bench"), pins("dev")
    assert {name: bench[name] for name in bench.keys() & dev.keys()}.items() <= dev.items()


@pytest.mark.parametrize("lock", ["demo", "test", "bench", "dev"])
def test_lock_names_no_index(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
