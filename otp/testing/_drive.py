"""Drive one actor, without a tree around it: hand it one message after another and see what it makes of each."""

from __future__ import annotations

import inspect
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final, overload

import attrs
import trio

from .. import _checks as checks
from .._actor import Actor
from .._call import DEFAULT_TIMEOUT, Call
from .._errors import FailedToStart, NotAlive
from .._events import ChildExited
from .._exit import Crashed, ExitReason, Ignore, Killed, Shutdown, Stop
from .._refusals import ChildNotFound
from .._root import open_supervisor
from .._runtime import Runtime
from .._spec import ChildSpec, Supervisor, child
from ._events import CapturedEvents, capture_events
from ._probe import Probe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from .._ref import Ref
    from .._supervisor_ref import SupervisorRef

A = TypeVar("A", bound=Actor)
R = TypeVar("R")


@overload
def drive(start: ChildSpec, *, probes: Iterable[Probe] = ()) -> AbstractAsyncContextManager[Driven[Any]]: ...
@overload
def drive(start: Callable[[], A], *, probes: Iterable[Probe] = ()) -> AbstractAsyncContextManager[Driven[A]]: ...
def drive(
    start: ChildSpec | Callable[[], A], *, probes: Iterable[Probe] = ()
) -> AbstractAsyncContextManager[Driven[Any]]:
    """Run one actor in the hands of a test, through one life, with probes for those it talks to.

    ::

        async def test_a_sale_is_posted() -> None:
            ledger = Probe("ledger")
            async with drive(lambda: Till(ledger.ref), probes=[ledger]) as till:
                await till.send(Sale(30))
                assert ledger.received == [Posting(30)]
                assert await till.call(GetTotal()) == 30

    The block is entered when its `init` is done. It is a real actor with a real mailbox; only nobody restarts it. A
    crash is raised in the test with its own traceback, by whatever waits for the actor, at the latest at the end of the
    block. Otherwise the actor is asked to stop there.

    Args:
        start: What makes the actor, or a whole spec: ``child(Till, name="till", shutdown=1.0)``; its `restart` does not
            matter.
        probes: Started before it, and registered under their names.

    Raises:
        Ignore: if its `init` asked to be left out.
        Stop: if it ended in its `init` without a fault.
        Exception: what its `init`, or later the actor, crashed with.
    """
    if not isinstance(start, ChildSpec):
        start = child(start, id=start.__name__ if inspect.isclass(start) else "actor")
    probes = tuple(probes)
    for probe in probes:
        checks.instance("each of probes", probe, Probe, "a Probe")
    driven: Driven[Any] = Driven(start)
    return driven._run(probes)  # pyright: ignore[reportPrivateUsage]  # they are made for each other


@attrs.define(eq=False)
class _Delivery:
    """A message of the test on its way through the handler."""

    message: object
    begun: bool = False
    over: trio.Event = attrs.field(factory=trio.Event)


@final
class Driven(Generic[A]):
    """An actor in the hands of a test: what :func:`drive` gives."""

    events: CapturedEvents
    """Everything that happened, also to the probes."""

    def __init__(self, spec: ChildSpec) -> None:
        self._spec = attrs.evolve(spec, start=self._make, restart="temporary")
        self._start_actor = spec.start
        self._path = f"test/{spec.id}"
        self._supervisor: SupervisorRef | None = None
        self._actor: A | None = None
        self._ref: Ref | None = None
        self._deliveries: list[_Delivery] = []
        self._ended = trio.Event()
        self._raised = False
        self.sent: list[tuple[str, object]] = []
        """What the probes were sent: the name of the probe and the message, in the order of sending."""
        self.reason: ExitReason | None = None
        """What the actor ended with; None while it is alive."""
        self.terminated: ExitReason | None = None
        """What its `terminate` was called with; None if it was not."""

    @property
    def actor(self) -> A:
        """The actor itself, to look at its state."""
        assert self._actor is not None
        return self._actor

    @property
    def ref(self) -> Ref:
        """Its address, as others have it."""
        assert self._ref is not None
        return self._ref

    async def send(self, message: object, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Send it a message, and come back when that has been handled.

        What it sends to itself meanwhile is handled after that: wait for it by :func:`settle`. If this is cancelled the
        message has been sent all the same.

        Args:
            message: What its `handle_message` gets.
            timeout: Seconds to wait; ``math.inf`` for no limit.

        Raises:
            TimeoutError: if it has not been handled in time; the handler goes on.
            NotAlive: if the actor had ended, or ends before it comes to this message, or is killed while handling it.
            MailboxFull: if there is no room.
            Exception: what it crashed with, with its traceback.
        """
        self._raise_crash()
        delivery = _Delivery(message)
        self.ref.send(message)
        self._deliveries.append(delivery)
        with trio.move_on_after(timeout):
            await delivery.over.wait()
        if not delivery.over.is_set():
            raise TimeoutError(f"{self._path} has not handled {message!r} within {timeout:g} s")
        self._raise_crash()
        if not delivery.begun or (isinstance(self.reason, Killed) and delivery in self._deliveries):
            raise NotAlive(self._path, self.reason)

    @overload
    async def call(self, request: Call[R], *, timeout: float = DEFAULT_TIMEOUT) -> R: ...
    @overload
    async def call(self, request: object, *, timeout: float = DEFAULT_TIMEOUT) -> Any: ...
    async def call(self, request: object, *, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """Call it and return the answer: :meth:`Ref.call`, but a crash is raised as what it was.

        Args:
            request: What its `handle_call` gets.
            timeout: Seconds to wait; ``math.inf`` for no limit.

        Raises:
            CallTimeout: if no answer came within `timeout` seconds.
            NotAlive: if the actor has ended without a crash.
            Exception: what it crashed with, with its traceback.
        """
        self._raise_crash()
        try:
            return await self.ref.call(request, timeout=timeout)
        except NotAlive:
            await self._ended.wait()  # callers are told before its cleanup is done
            self._raise_crash()
            raise

    async def stop(self, reason: ExitReason | None = None) -> ExitReason:
        """Make it end, wait for that, and return what it ended with. If this is cancelled it ends all the same.

        Args:
            reason: Let it end after the current handler with this, as by :meth:`Actor.stop`. By default it is asked to
                stop as by its supervisor: it handles what it has, and ends within its `shutdown` time.

        Raises:
            Exception: what it crashed with, unless that is the `reason`.
        """
        if reason is not None:
            self.actor.stop(reason)
        elif self._supervisor is not None:
            with suppress(ChildNotFound):  # it has ended
                await self._supervisor.terminate_child(self._spec.id)
        await self._ended.wait()
        self._raised = self._raised or self.reason == reason
        return reason if reason is not None and self.reason == reason else await self.wait()

    async def wait(self) -> ExitReason:
        """Wait until it has ended, by itself or otherwise, and return what it ended with.

        Raises:
            Exception: what it crashed with, with its traceback.
        """
        await self._ended.wait()
        self._raise_crash()
        assert self.reason is not None
        return self.reason

    # -- how it lives ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _run(self, probes: tuple[Probe, ...]) -> AsyncGenerator[Driven[A]]:
        runtime = Runtime()
        runtime.events.subscribe(self._note_end, ChildExited)
        beside = Supervisor([child(probe, id=probe.name, name=probe.name) for probe in probes])
        with ExitStack() as until_it_ends:
            for probe in probes:
                until_it_ends.callback(probe.listen(partial(self._note_sent, probe.name)))
            self.events = until_it_ends.enter_context(capture_events(runtime))
            async with open_supervisor(beside, name="test", runtime=runtime) as self._supervisor:
                await self._start(self._supervisor)
                try:
                    yield self
                except BaseException as error:
                    self._explain(error)
                    raise
                if not self._ended.is_set():
                    await self.stop()
                elif not self._raised:
                    self._raise_crash()

    async def _start(self, supervisor: SupervisorRef) -> None:
        failed: ExitReason | None = None
        try:
            self._ref = await supervisor.start_child(self._spec)
        except FailedToStart as error:
            failed = error.reason
        # Raised here, so that the actor's error keeps the cause and the context that it has.
        match failed:
            case None:
                if self._ref is None:
                    raise Ignore
            case Crashed(exception):
                raise exception
            case Shutdown(reason):
                raise Stop(reason)
            case _:
                raise Stop

    def _make(self) -> Actor:
        made = cast("Callable[[], object]", self._start_actor)()
        if inspect.iscoroutine(made):
            made.close()
        if not isinstance(made, Actor):
            raise TypeError(f"start must make an Actor, not {made!r}; other children are tested in a tree")
        self._actor = cast("A", made)
        handle, terminate = made.handle_message, made.terminate

        async def handle_message(message: object) -> None:
            delivery = next((each for each in self._deliveries if each.message is message and not each.begun), None)
            if delivery is not None:
                delivery.begun = True
            await handle(message)
            if delivery is not None:
                delivery.over.set()
                self._deliveries.remove(delivery)

        async def see_terminate(reason: ExitReason) -> None:
            self.terminated = reason
            await terminate(reason)

        # Instance attributes, as no subclass made here would be the class under test; and it may be a frozen one.
        object.__setattr__(made, "handle_message", handle_message)
        object.__setattr__(made, "terminate", see_terminate)
        return made

    def _note_end(self, event: object) -> None:
        if isinstance(event, ChildExited) and event.path == self._path:
            self.reason = event.reason
            self._ended.set()
            for delivery in self._deliveries:
                delivery.over.set()

    def _note_sent(self, name: str, message: object) -> None:
        self.sent.append((name, message))

    def _raise_crash(self) -> None:
        if isinstance(self.reason, Crashed):
            self._raised = True
            raise self.reason.exception

    def _explain(self, error: BaseException) -> None:
        """The test has failed; perhaps because of a crash that it does not know of."""
        if isinstance(self.reason, Crashed) and not self._raised:
            error.add_note(f"Before that, {self._path} {self.reason}")
