"""CPU work in worker processes: supervised, killed by a cancel, gone with their parent.

Why not a library over `multiprocessing`: trio-parallel and anyio start their processes from a pooled thread
that ends after 10 s of idleness, and `PR_SET_PDEATHSIG`, the only thing that kills a worker which holds the
GIL when the parent was killed with -9, belongs to the thread: their workers are killed at second 10. And a
signal to the whole process group hits them before they have arranged to ignore it. So this is
`multiprocessing` itself (spawn), driven by trio. What runs in the worker is in `_worker.py`.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import time
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar, TypeVarTuple

import attrs
import trio

from . import _checks as checks
from . import _worker
from ._child import current_context
from ._errors import OtpError
from ._worker_process import Gone, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_CLOSE_SECONDS: Final = 1.0
"""How long an idle worker may take to leave when it is told to, before it is killed."""

EndCause = Literal["closed", "cancelled", "died", "failed to start"]
"""Why a worker process ended: it was not needed any more, its job was cancelled, it ended by itself, or it never got
ready."""


@attrs.frozen(kw_only=True)
class WorkerStarted:
    """A worker process is ready for jobs, `seconds` after it was asked for."""

    path: str
    """Where the `WorkerProcesses` is in the tree; empty outside of one."""
    pid: int
    """Its process id."""
    seconds: float
    """How long that took."""


@attrs.frozen(kw_only=True)
class WorkerEnded:
    """A worker process is gone."""

    path: str
    """Where the `WorkerProcesses` is in the tree; empty outside of one."""
    pid: int
    """Its process id."""
    exitcode: int
    """Negative: killed by that signal."""
    cause: EndCause
    """Why it ended."""


@attrs.frozen(kw_only=True)
class WorkerStatistics:
    """A look at a `WorkerProcesses`."""

    limit: int
    """How many workers there may be."""
    busy: int
    """How many run a job."""
    idle: int
    """How many wait for one."""
    waiting: int
    """Jobs that wait for a worker."""
    started: int
    """Worker processes that became ready, so far."""
    ended: int
    """Worker processes that are gone, so far."""


class WorkerDied(OtpError):
    """A worker process ended in the middle of a job, or before it took one.

    The job may have had any part of its effect.

    Attributes:
        function: The qualified name of the job's function; None if the worker never got ready.
        pid: The process id.
        exitcode: Negative: killed by that signal.
    """

    def __init__(self, function: str | None, pid: int, exitcode: int) -> None:
        super().__init__(function, pid, exitcode)
        self.function = function
        self.pid = pid
        self.exitcode = exitcode

    def __str__(self) -> str:
        where = f"while it ran {self.function}" if self.function else "before it was ready"
        hint = ""
        if self.exitcode == -signal.SIGKILL:
            hint = "; out of memory, perhaps"
        elif not self.function:
            hint = "; does the main module start its work under `if __name__ == '__main__':`?"
        return f"worker process {self.pid} died {where} ({_ended_how(self.exitcode)}{hint})"


class WorkersClosed(OtpError):
    """The `WorkerProcesses` is not open: not yet entered, or left while the job was running or waiting."""


class NotSendable(OtpError, TypeError):
    """The function, its arguments or its result cannot travel between processes."""


class RemoteError(OtpError):
    """An exception of a job that cannot travel (`SystemExit`, or one that does not pickle)."""


class RemoteTraceback(Exception):
    """The `__cause__` of an exception raised in a worker process: the traceback as it was there, in text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class WorkerProcesses:
    """Up to `limit` worker processes that run plain functions, one each at a time.

    An async context manager, made to be a supervised child: `child(lambda: cpu, id="cpu")`. It may be entered
    again after it was left, as a restart does. Workers are started when they are needed, or all at once on
    entering with `prewarm=True`; a new process costs an interpreter and the imports of the job's module (50
    to 500 ms).

    A worker process ignores SIGINT and SIGTERM, so that a signal to the whole group leaves it to the parent
    when work stops. It dies with its parent, also when that is killed with -9 (see
    `_worker.die_with_parent`). Do not fork the parent while workers run.

    Leaving it kills what still runs, and waits for that, shielded from cancellation; idle workers have a second to
    leave. Entering it raises RuntimeError if it is open, and WorkerDied if a worker that is prewarmed does not come up.

    Args:
        limit: How many processes at most; by default as many as the machine has processors.
        prewarm: Start all of them on entering, and wait until they are ready. Default: when they are needed.
        init: Called once in each new worker before its first job; picklable, as every function that is sent.
        start_timeout: Seconds until a new worker must be ready.
        on_event: Called with `WorkerStarted` and `WorkerEnded`; by default they are events of the child that entered.

    Raises:
        ValueError: if `limit` is not a whole number >= 1, or `start_timeout` not a number > 0.
        NotSendable: if `init` cannot be pickled.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        prewarm: bool = False,
        init: Callable[[], object] | None = None,
        start_timeout: float = 60.0,
        on_event: Callable[[object], object] | None = None,
    ) -> None:
        if limit is None:
            limit = os.cpu_count() or 1
        checks.whole("limit", limit, least=1)
        checks.positive_seconds("start_timeout", start_timeout)
        self._limit = limit
        self._prewarm = prewarm
        self._init = _pickle(init, f"init={init!r}")
        self._start_timeout = start_timeout
        self._on_event = on_event
        self._emit: Callable[[object], object] = _nobody
        self._path = ""
        self._limiter = trio.CapacityLimiter(limit)
        self._open = False
        self._idle: list[WorkerProcess] = []  # the most recently used is last, and used next
        self._all: set[WorkerProcess] = set()
        self._runs: dict[trio.CancelScope, trio.Event] = {}
        self._started = 0
        self._ended = 0

    async def __aenter__(self) -> Self:
        if self._open or self._all:
            raise RuntimeError("these WorkerProcesses are already open")
        try:
            context = current_context()
        except RuntimeError:  # used outside of a tree
            self._path, self._emit = "", self._on_event or _nobody
        else:
            self._path, self._emit = context.path, self._on_event or context.emit
        import_module("multiprocessing.util")  # it has an exit function of its own, which has to come after ours
        atexit.register(self._kill_all)
        try:
            if self._prewarm:
                for _ in range(self._limit):
                    self._spawn()
                for worker in list(self._all):
                    await self._wait_ready(worker)
                self._idle += self._all
        except BaseException:
            await self._close()
            raise
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run `fn(*args)` in a worker process and return its result.

        `fn` is importable by name (defined at the top level of a module), its arguments and its result can be
        pickled. While all workers are busy this waits for one. Cancellation kills the worker process at once: it is
        the one place where a child can be ended by force.

        Raises:
            Exception: what `fn` raised, with the remote traceback as its cause.
            RemoteError: in place of an exception that cannot travel.
            NotSendable: if the function, an argument or the result cannot be pickled.
            WorkerDied: if the process ended in the middle of it.
            WorkersClosed: if the workers are not open, or were closed meanwhile.
        """
        if not self._open:
            raise WorkersClosed("the worker processes are not open; enter them with `async with`, or make them a child")
        name = _name_of(fn)
        job = _pickle((fn, args), name)
        done = trio.Event()
        with trio.CancelScope() as scope:
            self._runs[scope] = done
            try:
                async with self._limiter:
                    answer = await self._run_in_worker(name, job)
            finally:
                del self._runs[scope]
                done.set()
        if scope.cancelled_caught:
            raise WorkersClosed(f"the worker processes were closed before {name} had finished")
        return _read_answer(name, answer)  # type: ignore[return-value]  # it is what fn returned over there

    def statistics(self) -> WorkerStatistics:
        """Tell what the workers are doing right now."""
        return WorkerStatistics(
            limit=self._limit,
            busy=self._limiter.borrowed_tokens,
            idle=len(self._idle),
            waiting=self._limiter.statistics().tasks_waiting,
            started=self._started,
            ended=self._ended,
        )

    async def _run_in_worker(self, name: str, job: bytes) -> bytes:
        worker = await self._take_idle() or self._spawn()
        fresh = not worker.ready
        try:
            if fresh:
                await self._wait_ready(worker)
            answer = await worker.ask(job)
        except Gone as gone:
            exitcode = await self._end(worker, "died")
            if gone.begun or fresh:
                raise WorkerDied(name, worker.pid, exitcode) from None
            return await self._run_in_worker(name, job)  # it was dying while it was idle; no harm done
        except WorkerDied:
            raise
        except BaseException:
            await self._end(worker, "cancelled")
            raise
        self._idle.append(worker)
        return answer

    async def _take_idle(self) -> WorkerProcess | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.is_alive():
                return worker
            await self._end(worker, "died")  # it was killed while it had nothing to do
        return None

    def _spawn(self) -> WorkerProcess:
        worker = WorkerProcess(self._init)
        self._all.add(worker)
        return worker

    async def _wait_ready(self, worker: WorkerProcess) -> None:
        try:
            with trio.move_on_after(self._start_timeout):
                await worker.wait_ready()
        except Gone:
            pass
        if not worker.ready:
            raise WorkerDied(None, worker.pid, await self._end(worker, "failed to start"))
        self._started += 1
        self._emit(WorkerStarted(path=self._path, pid=worker.pid, seconds=time.monotonic() - worker.started_at))

    async def _end(self, worker: WorkerProcess, cause: EndCause) -> int:
        """See the end of a worker, which is killed unless it is `closed`. Not cancellable, but bounded."""
        with trio.CancelScope(shield=True):
            await worker.end(patience=_CLOSE_SECONDS if cause == "closed" else 0)
        exitcode = worker.exitcode
        assert exitcode is not None
        self._all.discard(worker)
        self._ended += 1
        self._emit(WorkerEnded(path=self._path, pid=worker.pid, exitcode=exitcode, cause=cause))
        return exitcode

    async def _close(self) -> None:
        self._open = False
        with trio.CancelScope(shield=True):
            for scope in list(self._runs):
                scope.cancel()
            for done in list(self._runs.values()):
                await done.wait()
            self._idle.clear()
            async with trio.open_nursery() as nursery:
                for worker in list(self._all):
                    nursery.start_soon(self._end, worker, "closed" if worker.ready else "cancelled")
        atexit.unregister(self._kill_all)

    def _kill_all(self) -> None:
        # The run loop broke down without leaving us. multiprocessing would now wait for the workers, which
        # ignore its SIGTERM, and the interpreter would never end.
        for worker in self._all:
            worker.process.kill()


def _read_answer(name: str, answer: bytes) -> object:
    kind, body = answer[:1], memoryview(answer)[1:]
    try:
        value = pickle.loads(body)
    except Exception as cause:
        raise NotSendable(f"{name}: what it returned or raised cannot be loaded here: {cause!r}") from cause
    if kind == _worker.RESULT:
        return value
    if kind == _worker.UNSENDABLE:
        raise NotSendable(f"{name}: {value}")
    raised, described, text = value
    raise (RemoteError(described) if raised is None else raised) from RemoteTraceback(text)


def _pickle(value: object, name: str) -> bytes:
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise NotSendable(
            f"{name} cannot be sent to a worker process: {error}. Functions must be importable by name "
            "(no lambda, no inner function) and arguments picklable"
        ) from error


def _name_of(fn: Callable[..., object]) -> str:
    inner = getattr(fn, "func", fn)  # functools.partial
    name, module = getattr(inner, "__qualname__", None), getattr(inner, "__module__", None)
    if name is None:
        return repr(fn)
    return f"{module}.{name}" if module else str(name)


def _ended_how(exitcode: int) -> str:
    if exitcode >= 0:
        return f"exit code {exitcode}"
    try:
        return f"killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"killed by signal {-exitcode}"


def _nobody(event: object) -> None:
    """Take an event that nobody listens to."""
