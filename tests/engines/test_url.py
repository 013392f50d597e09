"""A URL picks the engine, and never shows its secrets."""

import subprocess
import sys

import pytest

from otp.engines import MemoryEngine, SqliteEngine, engine_for, redacted


def test_picked():
    assert isinstance(engine_for("memory://"), MemoryEngine)
    assert engine_for("memory://").url == "memory://"
    named = engine_for("memory://test_url", lease=3.0)
    assert isinstance(named, MemoryEngine)
    assert named.store.name == "test_url"
    assert named.lease == 3.0
    sqlite = engine_for("sqlite:////var/lib/my%20jobs.db", synchronous="normal")
    assert isinstance(sqlite, SqliteEngine)
    assert sqlite.url == "sqlite:////var/lib/my jobs.db"
    assert engine_for("sqlite:///jobs.db").url == "sqlite:///jobs.db"
    assert sqlite.owner != named.owner


@pytest.mark.parametrize(
    "url",
    ["", "jobs.db", "sqlite://", "sqlite:///", "sqlite://jobs.db", "sqlite:///:memory:", "memory://a/b", "memory:///x",
     "sqlite:///a.db?lease=3", "oracle://user:hunter2@db/x", "sqlite:///a#b"],
)  # fmt: skip
def test_refused(url: str):
    with pytest.raises(ValueError, match=r".") as caught:
        engine_for(url)
    assert "hunter2" not in str(caught.value)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="string"):
        engine_for(7)  # type: ignore[arg-type]
    for url in ("memory://", "sqlite:///x.db"):
        with pytest.raises(TypeError, match="leese"):
            engine_for(url, leese=3)


def test_redacted():
    assert redacted("postgresql://me:hunter2@db:5432/x?password=hunter2#hunter2") == "postgresql://me:***@db:5432/x"
    assert redacted("redis://:hunter2@db") == "redis://:***@db"
    assert redacted("nats://token@db") == "nats://***@db"
    assert redacted("hunter2") == "<not a URL>"


def test_importing_loads_no_database_library():
    code = "import sys, otp.engines; print([name for name in ('apsw', 'cattrs') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
