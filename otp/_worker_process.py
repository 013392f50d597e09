"""One worker process as the parent sees it: started, asked, ended. Who uses it is in `_processes.py`."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from . import _worker

if TYPE_CHECKING:
    from collections.abc import Generator
    from multiprocessing.context import SpawnProcess


class Gone(Exception):
    """The worker process closed its side of the connection, after it had begun the job or before."""

    def __init__(self, *, begun: bool = False) -> None:
        super().__init__(begun)
        self.begun = begun


class WorkerProcess:
    """One process and our end of its connection."""

    def __init__(self, init: bytes) -> None:
        import multiprocessing  # late: who only imports otp has no use for it

        ours, theirs = socket.socketpair()
        self.ready = False
        self.exitcode: int | None = None
        self.started_at = time.monotonic()
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.process: SpawnProcess = multiprocessing.get_context("spawn").Process(
            target=_worker.main, args=(theirs, os.getpid(), init), name="holdfast worker", daemon=True
        )
        try:
            # On this thread and not on a helper: the parent-death signal belongs to the thread that starts
            # the process. It takes about a millisecond.
            with theirs, _group_signals_blocked():
                self.process.start()
        except BaseException:
            ours.close()
            raise
        assert self.process.pid is not None
        self.pid = self.process.pid
        self._received = bytearray()

    async def wait_ready(self) -> None:
        """Wait until it can take a job. Raises `Gone` when it ends instead."""
        await self._receive()
        self.ready = True

    async def ask(self, job: bytes) -> bytes:
        """Have it run one job; the answer begins with a kind byte. If none comes, `end` it.

        Raises `Gone`, whose `begun` tells whether the job may have had any effect.
        """
        try:
            await self._stream.send_all(_worker.HEADER.pack(len(job)))
            await self._stream.send_all(job)
        except trio.BrokenResourceError:
            raise Gone from None
        begun = False
        try:
            await self._receive()
            begun = True
            return await self._receive()
        except Gone:
            raise Gone(begun=begun) from None

    async def _receive(self) -> bytes:
        header = await self._receive_exactly(_worker.HEADER.size)
        return await self._receive_exactly(_worker.HEADER.unpack(header)[0])

    async def _receive_exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            try:
                chunk = await self._stream.receive_some()
            except trio.BrokenResourceError:
                chunk = b""
            if not chunk:
                raise Gone
            self._received += chunk
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    async def end(self, *, patience: float) -> None:
        """Close the connection, wait `patience` seconds for the process to leave, kill it. Sets `exitcode`."""
        if patience == 0:
            self.process.kill()  # first, and synchronously: a cancel takes effect at once
        await trio.aclose_forcefully(self._stream)
        with trio.move_on_after(patience):
            await self._wait_exit()
        if self.process.exitcode is None:
            self.process.kill()
            await self._wait_exit()
        self.exitcode = self.process.exitcode
        self.process.close()

    async def _wait_exit(self) -> None:
        pause = 0.001
        while self.process.exitcode is None:
            # The sentinel tells it at once, unless a grandchild holds it open: then the pauses do.
            with trio.move_on_after(pause):
                await trio.lowlevel.wait_readable(self.process.sentinel)
                await trio.sleep(0.001)  # its end of file comes a moment before the exit code
            pause = min(2 * pause, 0.05)


@contextmanager
def _group_signals_blocked() -> Generator[None]:
    """Block what is sent to the process group; a process started now inherits that."""
    from multiprocessing import resource_tracker

    # It starts one process of its own at first use, and on that occasion unblocks the very same signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _worker.GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
