"""A probe: an actor that stands in for another one, keeps what it is sent and answers as it was told to."""

from __future__ import annotations

import inspect
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final, overload

import trio
from trio.testing import wait_all_tasks_blocked

from .. import _checks as checks
from .._actor import Actor
from .._call import Request, Turn
from .._entries import Entry
from .._errors import NotAlive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._ref import Ref

T = TypeVar("T")

WITHIN: Final = 1.0
"""Seconds that an expected message may take to come."""


@final
class Probe:
    """Stands in for an actor: keeps every message and call that it is sent, in order, and answers calls by rules.

    It goes wherever an actor goes: :func:`drive` runs those it is given, and in a tree it is what a child starts, so
    the rest of the tree does not notice::

        ledger = Probe("ledger")
        ledger.answer(GetLimit, 100)
        async with open_supervisor(Supervisor([child(ledger, id="ledger", name="ledger"), child(Till)])) as app:
            app.ref("Till").send(Sale(30))
            await ledger.expect(Posting(30))

    Messages are there at the moment when they are sent: nothing has to run in between. When the probe is restarted, it
    keeps what it has.

    Args:
        name: its id, and the name that it is registered under, where :func:`drive` runs it.
    """

    def __init__(self, name: str = "probe") -> None:
        checks.text("name", name, without="/")
        self.name = name
        self.received: list[object] = []
        """All messages and requests so far, in the order in which they were sent."""
        self._unread: deque[object] = deque()
        self._came = trio.Event()
        self._rules: list[tuple[object, object]] = []
        self._actor: _ProbeActor | None = None
        self._listeners: list[Callable[[object], None]] = []

    def __repr__(self) -> str:
        return f"<Probe {self.name}>"

    def __call__(self) -> Actor:
        """The actor for one incarnation: a probe is what ``child()`` takes."""
        self._actor = _ProbeActor(self._note, self._answer)
        return self._actor

    @property
    def ref(self) -> Ref:
        """The address of the probe, to be given to the actor under test.

        Raises:
            NotAlive: if it does not run.
        """
        ref = None if self._actor is None else self._actor.ref
        if ref is None or not ref.alive:
            raise NotAlive(self.name)
        return ref

    def answer(self, request: object, answer: object) -> None:
        """Answer calls of this kind from now on; of several rules that fit the last one counts.

        A call that no rule fits crashes the probe with an error that shows it, and its caller gets :exc:`NotAlive`.

        Args:
            request: A class, for all requests that are instances of it, or a value, for those that are equal to it.
            answer: The answer; or an exception (class), which crashes the probe, so that the caller gets
                :exc:`NotAlive` caused by it; or a function that is given the request and returns the answer, and may be
                async: with one that waits, calls time out.
        """
        self._rules.append((request, answer))

    @overload
    async def expect(self, message: type[T], *, within: float = WITHIN) -> T: ...
    @overload
    async def expect(self, message: T, *, within: float = WITHIN) -> T: ...
    async def expect(self, message: object, *, within: float = WITHIN) -> object:
        """Take the oldest message (or request) that was not taken yet, and assert that it is this one.

        No checkpoint if there is one. If it is cancelled none is taken.

        Args:
            message: A class that it is to be an instance of, or a value that it is to be equal to.
            within: Seconds to wait for it, if there is none yet.

        Returns:
            The message.

        Raises:
            AssertionError: if it is another one, or none comes in time. The message is taken all the same.
        """
        checks.seconds("within", within)
        with trio.move_on_after(within):
            while not self._unread:  # again, if somebody else has taken it
                await self._came.wait()
        if not self._unread:
            raise AssertionError(f"{self.name} was to get {_show(message)}, but got nothing within {within:g} s")
        got = self._unread.popleft()
        if not _fits(message, got):
            raise AssertionError(f"{self.name} was to get {_show(message)}, but got {got!r}")
        return got

    async def expect_nothing(self) -> None:
        """Let all tasks run until they wait, and assert that there is no message that was not taken yet.

        Raises:
            AssertionError: naming what there is.
        """
        await wait_all_tasks_blocked()
        if self._unread:
            raise AssertionError(f"{self.name} was to get nothing, but got {list(self._unread)!r}")

    def listen(self, listener: Callable[[object], None]) -> Callable[[], None]:
        """Call `listener` with each message from now on, when it is sent.

        Returns:
            A function that ends that.
        """
        self._listeners.append(listener)
        return partial(self._listeners.remove, listener)

    def _note(self, message: object) -> None:
        self.received.append(message)
        self._unread.append(message)
        self._came.set()
        self._came = trio.Event()
        for listener in self._listeners:
            listener(message)

    async def _answer(self, request: object) -> object:
        for kind, answer in reversed(self._rules):
            if _fits(kind, request):
                if isinstance(answer, BaseException) or (inspect.isclass(answer) and issubclass(answer, BaseException)):
                    raise answer
                if not callable(answer):
                    return answer
                result = cast("Any", answer)(request)
                return await result if inspect.isawaitable(result) else result
        raise AssertionError(f"{self.name} was called with {request!r}, and no rule says what to answer: see answer()")


def _fits(expected: object, got: object) -> bool:
    return isinstance(got, expected) if inspect.isclass(expected) else bool(got == expected)


def _show(expected: object) -> str:
    return f"a {expected.__qualname__}" if inspect.isclass(expected) else repr(expected)


@final
class _ProbeActor(Actor):
    """One incarnation of a probe."""

    def __init__(self, note: Callable[[object], None], answer: Callable[[object], Awaitable[object]]) -> None:
        self._note = note
        self._answer_call = answer
        self.ref: Ref | None = None

    async def init(self) -> None:
        self.ref = self.me
        box = self._life.box
        box._allocate()  # pyright: ignore[reportPrivateUsage]  # an open box, whose queue is its own
        recorder = _Recorder(self._note)
        recorder.extend(box.queue)  # what the last incarnation has left was noted then
        box.queue = recorder

    async def handle_message(self, message: object) -> None:
        """Do nothing: it was noted when it was sent."""

    async def handle_call(self, request: object) -> object:
        return await self._answer_call(request)


@final
class _Recorder(deque[object]):
    """The messages of a mailbox; what is appended is noted at that moment."""

    def __init__(self, note: Callable[[object], None]) -> None:
        super().__init__()
        self._note = note

    def append(self, message: object) -> None:
        content = message.message if isinstance(message, Request) else message
        if not isinstance(content, Entry | Turn):
            self._note(content)
        super().append(message)
