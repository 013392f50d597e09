"""Named steps that run once: what ``run(job, steps)`` of a checkpointed actor is written with.

A step is known by its **name and occurrence** (the n-th step of that name), never by its ordinal: names survive edits
of the code between two deploys. The value a step returns is always the value *as it was stored*, also the first time,
so that a computation cannot tell whether it was interrupted (a tuple that comes back as a list shows in the first
test, not in the first deploy).
"""

from __future__ import annotations

import inspect
import typing
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, overload

import trio

from ._events import StepSaved, StepStarted
from ._tell import tell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from checkpoints import Checkpoint
    from otp import ChildContext, WorkerProcesses

T = TypeVar("T")
A = ParamSpec("A")
Ts = TypeVarTuple("Ts")

ACCEPTED = "accepted"
"""The step under which a named actor keeps the job it was given; no name for other steps."""


class Steps:
    """Runs the steps of one computation, each at most once per saved result.

    Made by the library. Between two steps is a *boundary*: there a draining service takes the computation back, with
    all its saved steps, and nothing is repeated when it goes on elsewhere.

    Steps may run side by side, in a nursery of `run`, if each has a name of its own.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        context: ChildContext,
        *,
        boundary: Callable[[], Awaitable[None]],
        processes: WorkerProcesses | None,
    ) -> None:
        """Save into `checkpoint`; `boundary` is awaited before a step runs, and may cancel the computation."""
        self._checkpoint = checkpoint
        self._context = context
        self._boundary = boundary
        self._processes = processes
        self._seen: Counter[str] = Counter()
        self._under_way: set[str] = set()

    @overload
    async def __call__(self, name: str, fn: Callable[A, Awaitable[T]], *args: A.args, **kwargs: A.kwargs) -> T: ...
    @overload
    async def __call__(self, name: str, fn: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T: ...

    async def __call__(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the result of the step `name`: the saved one if there is one, else that of `fn`, which is saved first.

        Cancelled within `fn`, the step was not done and runs again. It may so run more than once before it is saved:
        effects elsewhere need an id by which a second one is recognised.

        Args:
            name: the step's name; the same name again is its next occurrence.
            fn: a function or async function with a return annotation, which says how a saved result is read. It runs in
                the loop: for work that burns CPU use `process`.
            args: its positional arguments. They are not saved.
            kwargs: its keyword arguments.

        Raises:
            LeaseLost: somebody else has this work by now; nothing was saved.
            StepTooLarge: the result is over the checkpoints' limit; nothing was saved.
            TypeError: `fn` has no return annotation, or its result cannot be stored.
            UnknownPayload: the result was saved by a newer version of the program.
            ValueError: the name is used by a step that is under way, or by the library.
            StoreError: the store could not be reached.
        """

        async def body() -> Any:
            value = fn(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        return await self._step(name, returns(fn), body)

    async def process(self, name: str, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Like calling, but `fn` runs in a worker process: heartbeats and probes go on while it burns CPU.

        `fn`, its arguments and its result are pickled, so `fn` is a function at the top of a module. Cancelled, the
        worker process is killed at once.

        Raises:
            RuntimeError: the actor was made without `processes`.
            Exception: as for a call, and those of `WorkerProcesses.run`.
        """
        processes = self._processes
        if processes is None:
            raise RuntimeError(f"step {name!r} needs a worker process: give {self._context.path} processes=...")

        async def body() -> T:
            return await processes.run(fn, *args)

        result: T = await self._step(name, returns(fn), body)
        return result

    async def _step(self, name: str, kind: Any, body: Callable[[], Awaitable[Any]]) -> Any:
        if name == ACCEPTED:
            raise ValueError(f"name must not be {ACCEPTED!r}: the library saves the job under it")
        if name in self._under_way:
            # Which of them is which occurrence would be decided by the scheduler, and otherwise the next time.
            raise ValueError(
                f"name {name!r} is used by a step that is under way: side by side each needs one of its own"
            )
        occurrence = self._seen[name]
        self._seen[name] += 1
        self._under_way.add(name)
        try:
            if (name, occurrence) in self._checkpoint.saved:
                await trio.lowlevel.checkpoint()
            else:
                await self._boundary()
                await self._run(name, occurrence, body)
        finally:
            self._under_way.discard(name)
        return self._checkpoint.load(name, kind, occurrence=occurrence)

    async def _run(self, name: str, occurrence: int, body: Callable[[], Awaitable[Any]]) -> None:
        checkpoint = self._checkpoint
        which: dict[str, Any] = {
            "key": checkpoint.key,
            "step": name,
            "occurrence": occurrence,
            "epoch": checkpoint.lease.token.epoch,
        }
        tell(self._context, StepStarted, **which)
        began = trio.current_time()
        await checkpoint.save(name, await body(), occurrence=occurrence)
        tell(self._context, StepSaved, **which, seconds=trio.current_time() - began)


def returns(fn: Callable[..., Any]) -> Any:
    """Return the type that `fn` says it returns.

    Raises:
        TypeError: it does not say, or what it says cannot be evaluated.
    """
    target: Any = fn
    while hasattr(target, "func") or hasattr(target, "__wrapped__"):  # functools.partial, functools.wraps
        target = getattr(target, "func", None) or target.__wrapped__
    if inspect.isclass(target):
        return target
    if not inspect.isroutine(target):
        target = type(target).__call__
    described = getattr(fn, "__qualname__", repr(fn))
    annotations = inspect.get_annotations(target)
    if "return" not in annotations:
        raise TypeError(f"step function {described} needs a return annotation: it says how a saved result is read back")
    # Of the return type alone: the parameters may be annotated with names that only type checkers know.
    alone = SimpleNamespace(__annotations__={"return": annotations["return"]})
    try:
        return typing.get_type_hints(alone, globalns=getattr(target, "__globals__", None))["return"]
    except NameError as error:
        raise TypeError(
            f"the return annotation of step function {described} cannot be evaluated at run time, where saved results "
            f"are read back: {error}"
        ) from error
