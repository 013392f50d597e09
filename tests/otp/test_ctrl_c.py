"""Ctrl-C at each line of what must not be left half done: it stops the tree, and breaks neither trio nor its end."""

import itertools
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import outcome
import pytest
import trio

from otp import Actor, Mailbox, Ref, Supervisor, child, open_supervisor
from otp._call import CallDeadlines, Request
from otp._helpers import Helpers
from otp._mailbox import Box
from otp.testing import run_virtual
from tests.otp.actors import Echo, sleeps


class Interrupting:
    """Sends SIGINT at the line of that number of those that run in `functions`."""

    def __init__(self, functions: list[Callable[..., object]], line: int) -> None:
        self._code: set[CodeType] = {function.__code__ for function in functions}
        self._line = line
        self.lines = 0

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code not in self._code:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._line:
                signal.raise_signal(signal.SIGINT)
        return self.trace

    @contextmanager
    def at_work(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            yield
        finally:
            sys.settrace(before)


def innermost(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from innermost(each)
    else:
        yield error


def run_under(interrupting: Interrupting, async_fn: Callable[[], Awaitable[None]]) -> None:
    with interrupting.at_work():
        run_virtual(async_fn)


def interrupt_everywhere(functions: list[Callable[..., object]], work: Callable[[Ref], Awaitable[object]]) -> int:
    """Do the work in a tree again and again, with Ctrl-C one line later each time; returns how many lines there are."""

    async def in_a_tree() -> None:
        async with open_supervisor(Supervisor([child(Echo, mailbox=Mailbox(1))])) as supervisor:
            await work(supervisor.ref("Echo"))

    for line in itertools.count(1):
        interrupting = Interrupting(functions, line)
        result = outcome.capture(run_under, interrupting, in_a_tree)
        if isinstance(result, outcome.Error):
            assert {type(each) for each in innermost(result.error)} == {KeyboardInterrupt}
        if interrupting.lines < line:
            return interrupting.lines
    raise AssertionError


async def ask(ref: Ref) -> None:
    assert await ref.call("x") == "x"
    assert await ref.call("x", timeout=1) == "x"
    await ref.inspect()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ref.send_wait, sleeps(1))
    ref.send(lambda _: None)


async def have_help(ref: Ref) -> None:
    def begin(actor: Actor) -> None:
        actor.nursery.start_soon(trio.sleep, 1)

    await ref.call(begin)
    await trio.sleep(2)


@pytest.mark.parametrize(
    ("work", "functions"),
    [
        (ask, [Ref.call, Ref.send, Ref.inspect, CallDeadlines.watch, Request.reply]),
        (ask, [Box.put, Box.put_wait, Box.admit, Box._wake]),
        (have_help, [Helpers._run]),
    ],
)
def test_ctrl_c_at_each_line(work, functions):
    assert interrupt_everywhere(functions, work) > 8
