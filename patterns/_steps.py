"""Named steps that run once: what ``run(job, steps)`` of a checkpointed actor is written with.

A step is known by its **name and occurrence** (the n-th step of that name), never by its ordinal: names survive edits of the
code between two deploys. The value a step returns is always the value *as it was stored*, also the first time, so that a
computation cannot tell whether it was interrupted (a tuple that comes back as a list shows in the first test, not in the first deploy).
"""

from __future__ import annotations

import inspect
import typing
from collections import Counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

import trio

from ._events import StepSaved, StepStarted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otp import ChildContext, WorkerProcesses

    from checkpoints import Checkpoint

T = TypeVar("T")
A = ParamSpec("A")
Ts = TypeVarTuple("Ts")


class Steps:
    """Runs the steps of one computation, each at most once per saved result.

    Made by the library. Between two steps is a *boundary*: there a draining service takes the computation back, with all its
    finished steps, and nothing is repeated when it goes on elsewhere.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        context: ChildContext,
        *,
        boundary: Callable[[], Awaitable[None]],
        processes: WorkerProcesses | None,
    ) -> None:
        """Save into ``checkpoint``; ``boundary`` is awaited before a step runs and may end the computation by cancelling it."""
        self._checkpoint = checkpoint
        self._context = context
        self._boundary = boundary
        self._processes = processes
        self._seen: Counter[str] = Counter()

    @overload
    async def __call__(self, name: str, fn: Callable[A, Awaitable[T]], *args: A.args, **kwargs: A.kwargs) -> T: ...
    @overload
    async def __call__(self, name: str, fn: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T: ...

    async def __call__(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the result of the step ``name``: the saved one if there is one, else of ``fn(*args, **kwargs)``, which is saved first.

        Args:
            name: the step's name; the same name again is its next occurrence.
            fn: a function or async function with a return annotation, which says how a saved result is read. It runs in the loop:
                for work that burns CPU use `process`.
            args: its positional arguments. They are not saved.
            kwargs: its keyword arguments.

        Raises:
            LeaseLost: somebody else has this work by now; nothing was saved.
            TypeError: ``fn`` has no return annotation.
        """

        async def body() -> Any:
            value = fn(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        return await self._step(name, returns(fn), body)

    async def process(self, name: str, fn: Callable[[Unpack[Ts]], T], *args: Unpack[Ts]) -> T:
        """Like calling, but ``fn`` runs in a worker process: heartbeats and probes go on while it burns CPU.

        ``fn``, its arguments and its result are pickled, so ``fn`` is a function at the top of a module. When the computation is
        cancelled, its worker process is killed.

        Raises:
            RuntimeError: the actor was made without ``processes``.
        """
        if self._processes is None:
            raise RuntimeError(
                f"step {name!r} wants a worker process, but {self._context.path} was made without processes=WorkerProcesses(...)"
            )
        processes = self._processes

        async def body() -> T:
            return await processes.run(fn, *args)

        result: T = await self._step(name, returns(fn), body)
        return result

    async def _step(self, name: str, kind: Any, body: Callable[[], Awaitable[Any]]) -> Any:
        occurrence = self._seen[name]
        self._seen[name] += 1
        if (name, occurrence) not in self._checkpoint.saved:
            await self._boundary()
            epoch = self._checkpoint.lease.token.epoch
            event = dict(path=self._context.path, key=self._checkpoint.key, step=name, occurrence=occurrence, epoch=epoch)
            self._context.emit(StepStarted(**event))
            began = trio.current_time()
            value = await body()
            await self._checkpoint.save(name, value, occurrence=occurrence)
            self._context.emit(StepSaved(**event, seconds=trio.current_time() - began))
        return self._checkpoint.load(name, kind, occurrence=occurrence)


def returns(fn: Callable[..., Any]) -> Any:
    """The type that ``fn`` says it returns."""
    target = inspect.unwrap(fn)
    while hasattr(target, "func"):  # functools.partial
        target = target.func
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = type(target).__call__
    if inspect.isclass(target):
        return target
    hints = typing.get_type_hints(target)
    if "return" not in hints:
        raise TypeError(
            f"step function {getattr(fn, '__qualname__', fn)!r} needs a return annotation: it says how a saved result is read back"
        )
    return hints["return"]
