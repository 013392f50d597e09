"""What can be wrong with the file: clear, typed errors; and going on once it is right again."""

import logging
import os
import stat
import sys

import apsw
import pytest
import trio

from otp.engines import NotOpen, SqliteEngine, StoreError, StoreFull, StoreUnavailable
from otp.engines._sqlite_file import DatabaseFile
from tests.engines.support import MIGRATIONS, note, notes, sql, sqlite, until


async def refused(path, match: str) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable, match=match) as caught:
        async with SqliteEngine(path, open_timeout=0.5):
            pass
    return caught.value


async def test_a_missing_folder(tmp_path):
    error = await refused(tmp_path / "none" / "x.db", "does not exist")
    assert not error.retry
    assert not (tmp_path / "none").exists()


async def test_a_relative_path_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    await refused("var/x.db", "four slashes")


async def test_a_folder_instead_of_a_file(tmp_path):
    await refused(tmp_path, "is a folder")


async def test_not_a_database(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"definitely not a database, but long enough to have a header" * 20)
    error = await refused(path, "not a SQLite database")
    assert not error.retry
    assert path.read_bytes().startswith(b"definitely")


async def test_a_read_only_file(tmp_path, monkeypatch):
    async with sqlite(tmp_path):
        pass
    path = tmp_path / "test.db"
    path.chmod(0o444)
    if os.access(path, os.W_OK):  # root may write everything, so ask as somebody else would be answered
        monkeypatch.setattr(os, "access", lambda asked, mode: not (str(asked) == str(path) and mode & os.W_OK))
    await refused(path, "not readable and writable")
    assert stat.S_IMODE(path.stat().st_mode) == 0o444  # permissions are left as they are


async def test_a_damaged_file(tmp_path):
    async with sqlite(tmp_path) as engine:
        for i in range(200):
            await engine.write(note(f"{i}" * 100))
    path = tmp_path / "test.db"
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 2000] = b"\xff" * 2000
    path.write_bytes(bytes(content))
    with pytest.raises(StoreUnavailable, match="damaged") as caught:
        async with sqlite(tmp_path) as engine:
            await notes(engine)
    assert not caught.value.retry


async def test_disk_full_keeps_what_fits_and_goes_on_when_there_is_space(tmp_path):
    async with sqlite(tmp_path) as engine:
        await engine.write(note("small"))

        def limit(extra: int):
            def fn(c: apsw.Connection) -> None:
                c.pragma("max_page_count", c.pragma("page_count") + extra)

            return fn

        await engine.write(limit(3))
        full: list[int] = []
        kept: list[int] = []

        async def add(number: int, size: int) -> None:
            try:
                await engine.write(note(f"{number}:" + "x" * size))
                kept.append(number)
            except StoreFull:
                full.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(add, number, 100_000 if number % 3 == 0 else 10)
        assert sorted(full) == [0, 3, 6, 9]
        assert len(kept) == 8
        with pytest.raises(StoreFull):  # noqa: PT012
            async with engine.transaction() as tx:
                await engine.write(note("t"), tx=tx)
                await engine.write(note("y" * 100_000), tx=tx)
        await engine.write(limit(1000))
        await add(0, 100_000)
        assert len(await notes(engine)) == 1 + 8 + 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
async def test_a_file_size_limit_is_an_outage_and_nothing_else(tmp_path):
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        async with sqlite(tmp_path) as engine:
            await engine.write(note("small"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            failures = 0
            for i in range(5):
                try:
                    await engine.write(note(str(i) + "x" * 200_000))
                except StoreUnavailable:
                    failures += 1
            assert failures == 5
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            with trio.fail_after(10):
                while True:
                    try:
                        await engine.write(note("after"))
                        break
                    except StoreUnavailable:
                        await trio.sleep(0.05)
            assert await notes(engine) == ["small", "after"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_deleted_file_is_noticed_and_never_made_again_by_itself(tmp_path):
    async with sqlite(tmp_path) as engine:
        await engine.write(note("a"))
        for file in tmp_path.iterdir():
            file.unlink()

        async def lost(match: str) -> None:
            with trio.fail_after(10):
                while True:
                    try:
                        await engine.write(note(f"{trio.current_time()}"))
                    except StoreUnavailable as error:
                        if match in str(error):
                            return
                    await trio.sleep(0.02)

        await lost("deleted or replaced")
        await lost("cannot be opened")
        assert not (tmp_path / "test.db").exists()
        # Somebody restores it (here: another pod makes a new one): we go on with that.
        async with sqlite(tmp_path) as other:
            await other.write(note("new"))
            with trio.fail_after(10):
                while True:
                    try:
                        await engine.write(note("mine"))
                        break
                    except StoreUnavailable:
                        await trio.sleep(0.02)
            assert await notes(other) == ["new", "mine"]


async def test_watchers_and_readers_are_told_of_an_outage(tmp_path):
    async with sqlite(tmp_path) as engine, trio.open_nursery() as nursery:
        told: list[StoreUnavailable] = []

        async def watcher() -> None:
            try:
                await engine.watch(lambda c, _: float("inf"))
            except StoreUnavailable as error:
                told.append(error)

        nursery.start_soon(watcher)
        await trio.sleep(0.05)
        (tmp_path / "test.db").rename(tmp_path / "moved.db")
        await until(lambda: bool(told))
        (tmp_path / "moved.db").rename(tmp_path / "test.db")
        with trio.fail_after(10):
            while True:
                try:
                    assert await notes(engine) == []
                    break
                except StoreUnavailable:
                    await trio.sleep(0.02)


async def test_use_in_a_fork_is_refused(tmp_path, monkeypatch):
    async with sqlite(tmp_path) as engine:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with pytest.raises(StoreError, match="fork"):
            await engine.write(note("x"))
        monkeypatch.undo()


def test_an_engine_made_before_a_fork_is_another_owner_in_each_process(tmp_path, monkeypatch):
    engine = sqlite(tmp_path)
    owners = {engine.owner}

    async def use() -> None:
        for _ in range(2):
            async with engine:
                owners.add(engine.owner)

    trio.run(use)
    assert len(owners) == 1
    monkeypatch.setattr(os, "getpid", lambda: 1)
    trio.run(use)
    assert len(owners) == 2


async def test_a_relative_path_goes_on_leading_to_the_same_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = SqliteEngine("x.db")
    (tmp_path / "elsewhere").mkdir()
    for folder in (tmp_path, tmp_path / "elsewhere"):
        async with engine:
            monkeypatch.chdir(folder)
            await engine.write(sql("CREATE TABLE IF NOT EXISTS t (a)"))
            assert await engine.read(lambda c: c.execute("SELECT count(*) FROM t").fetchall()) == [(0,)]
        monkeypatch.chdir(tmp_path / "elsewhere")


async def test_watchers_end_when_the_engine_is_closed(tmp_path):
    engine = sqlite(tmp_path)
    async with trio.open_nursery() as nursery:
        ended: list[bool] = []

        async def watcher() -> None:
            with pytest.raises(NotOpen):
                await engine.watch(lambda c, _: float("inf"))
            ended.append(True)

        async with engine:
            nursery.start_soon(watcher)
            await trio.sleep(0.05)
    assert ended == [True]


async def test_the_settings_that_decide_about_a_power_cut_are_logged(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "otp.engines")
    async with SqliteEngine(tmp_path / "a.db"):
        pass
    line = next(record for record in caplog.records if "synchronous" in record.message)
    assert line.levelno == logging.INFO
    assert "synchronous=full" in line.message
    assert "journal_mode=wal" in line.message
    assert apsw.sqlite_lib_version() in line.message
    caplog.clear()
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    async with SqliteEngine(tmp_path / "b.db", synchronous="normal"):
        pass
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert any("may take the last commits" in message for message in warnings)
    assert any("3.51.3" in message for message in warnings)


def test_wrong_options(tmp_path):
    for options in (
        {"lease": 0},
        {"lease": -1},
        {"lease": float("nan")},
        {"lease": float("inf")},
        {"margin": 10},
        {"synchronous": "off"},
        {"poll_interval": 0},
        {"stall_limit": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            SqliteEngine(tmp_path / "x.db", **options)
    with pytest.raises(TypeError, match="lease"):
        SqliteEngine(tmp_path / "x.db", lease=True)
    with pytest.raises(TypeError, match="leese"):
        SqliteEngine(tmp_path / "x.db", leese=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=":memory:"):
        SqliteEngine(":memory:")
    with pytest.raises(ValueError, match="path"):
        SqliteEngine("")
    engine = SqliteEngine(tmp_path / "x.db")
    engine.schema("test", MIGRATIONS)
    engine.schema("test", MIGRATIONS)
    with pytest.raises(ValueError, match="other migrations"):
        engine.schema("test", ())
    with pytest.raises(ValueError, match="numbered"):
        engine.schema("other", (MIGRATIONS[0], MIGRATIONS[0]))
    assert DatabaseFile(path="x", synchronous="full", busy_timeout=1, open_timeout=1).identity() is None
