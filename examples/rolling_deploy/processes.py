"""What the controller takes for containers: processes of this host, each with its own process group."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import trio

from examples.rolling_deploy.lifeline import LIFELINE_ENV, Lifeline

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

__all__ = ["Container", "GroupLauncher", "Launcher", "free_port"]

_LAST_WORDS_SECONDS = 1.0
_LONGEST_LINE = 64 * 1024


class Container(Protocol):
    """A running container."""

    @property
    def pid(self) -> int:
        """The process id of its first process, which is also the id of its process group."""
        ...

    async def wait(self) -> int:
        """Wait for the end of its first process; the exit code, negative for a signal."""
        ...

    def send_signal(self, number: int) -> None:
        """Signal its first process, as Kubernetes does with SIGTERM. Nothing happens when it has ended."""
        ...

    def signal_all(self, number: int) -> None:
        """Signal every process in it. Nothing happens when none is left."""
        ...


class Launcher(Protocol):
    """Starts containers."""

    def __call__(
        self, command: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]
    ) -> AbstractAsyncContextManager[Container]:
        """Run ``command`` with the variables ``env`` and hand each line of its output to ``on_line``.

        When the context ends, everything in the container is killed. Raises ``OSError`` when it cannot be
        started.
        """
        ...


class GroupLauncher:
    """Starts each container as a process group of this host, which dies with this process."""

    def __init__(
        self,
        lifeline: Lifeline,
        *,
        directory: str | os.PathLike[str] | None = None,
        inherit: Mapping[str, str] | None = None,
    ) -> None:
        """``directory`` is the working directory of all containers.

        ``inherit`` are variables of the "image", which those of the container override; by default this
        process's own.
        """
        self._lifeline = lifeline
        self._directory = directory
        self._inherit = dict(os.environ if inherit is None else inherit)

    @asynccontextmanager
    async def __call__(
        self, command: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]
    ) -> AsyncGenerator[Container]:
        """Run a container; see :class:`Launcher`."""
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
            env={**self._inherit, "PYTHONUNBUFFERED": "1", **env, LIFELINE_ENV: str(self._lifeline.fd)},
            pass_fds=(self._lifeline.fd,),
            # A group, not a session: a stopped group whose parent goes away is then woken and hung up by the
            # kernel.
            process_group=0,
        )
        container = _Group(process)
        try:
            self._lifeline.enrol(process.pid)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_lines, process.stdout, on_line)
                try:
                    yield container
                finally:
                    container.signal_all(signal.SIGKILL)
                    # What was written before the end is read; what escaped from the group may hold the pipe
                    # open.
                    nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_SECONDS
        finally:
            container.signal_all(signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
            self._lifeline.strike(process.pid)


class _Group:
    def __init__(self, process: trio.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        return await self._process.wait()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(signal.Signals(number))

    def signal_all(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            # macOS answers EPERM for a group of which only zombies are left.
            os.killpg(self._process.pid, number)


async def _read_lines(stream: trio.abc.ReceiveStream | None, on_line: Callable[[str], None]) -> None:
    if stream is None:
        return
    rest = b""
    async with stream:
        async for data in stream:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                on_line(line.decode("utf-8", "replace"))
            if len(rest) > _LONGEST_LINE:
                on_line(rest.decode("utf-8", "replace"))
                rest = b""
    if rest:
        on_line(rest.decode("utf-8", "replace"))


def free_port() -> int:
    """A port of the loopback interface on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
