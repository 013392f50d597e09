"""What an import brings along. The arrows between our own modules are import-linter's (`make check`)."""

import json

from tests.packaging.support import Python

CORE = {"attr", "attrs", "idna", "outcome", "sniffio", "sortedcontainers", "trio"}
EXTRAS = {"apsw", "hypercorn", "nats", "psycopg", "pytest", "redis", "rich", "yaml"}

LOADED = """
import json, sys
before = set(sys.modules)
import {name}
new = set(sys.modules) - before
print(json.dumps(sorted({{name.partition(".")[0] for name in new}} - sys.stdlib_module_names)))
print(json.dumps(sorted(name for name in new if name.startswith("otp."))))
"""


def loaded(python: Python, name: str) -> tuple[set[str], set[str]]:
    done = python(LOADED.format(name=name))
    assert done.returncode == 0, done.stderr
    foreign, ours = map(json.loads, done.stdout.splitlines())
    return set(foreign), set(ours)


def test_otp_needs_only_the_core_dependencies_and_loads_no_engine(python: Python) -> None:
    foreign, ours = loaded(python, "otp")
    assert foreign <= {"otp", "_holdfast"} | CORE
    assert not {name for name in ours if name.startswith("otp.engines")}


def test_the_storage_packages_load_no_engine_before_one_is_used(python: Python) -> None:
    for name in ("queues", "checkpoints", "patterns"):
        foreign, _ = loaded(python, name)
        assert not foreign & EXTRAS, name
