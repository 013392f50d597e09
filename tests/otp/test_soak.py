"""The soak: random trees in random trouble, in virtual time, each decision held against the model.

A round is a seed: the tree, what happens to it and the order of the tasks follow from it. Some hundreds of rounds with
fixed seeds run in the normal suite; `make soak` goes on for ten minutes, from a seed that it prints.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import time
from collections import Counter
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import SystemRandom
from statistics import median
from typing import TYPE_CHECKING, Final

import pytest

import otp._call
import otp._helpers
import otp._life
import otp._mailbox
import otp._supervisor
from tests.otp.soak.rounds import run_round

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

SEED: Final = os.environ.get("SOAK_SEED")
SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "600"))

NEVER_LEFT: Final = (
    otp._life.Life,
    otp._mailbox.Box,
    otp._call.Request,
    otp._helpers.Helpers,
    otp._supervisor.SupervisorTask,
)

# A soak in which something never happens says nothing about it.
MUST_HAPPEN: Final = {
    *("ChildStarted", "ChildExited", "ChildIgnored", "ChildStartFailed", "ChildStuck", "MessagesDropped"),
    *(
        "reason: Normal",
        "reason: Shutdown",
        "reason: Killed",
        "reason: Crashed",
        "init timeout",
        "name taken",
        "rest",
        "crash",
    ),
    *(f"decided: {verdict}" for verdict in ("restart", "wait", "retry", "join", "leave", "forget", "roll back")),
    *("decided: give up", "the root gave up", "the root failed to start"),
    *(
        "decided: park",
        "decided: drop",
        "decided: auto shutdown",
        "change",
        "change ValueError",
        "start_child ValueError",
    ),
    *("start_instance AlreadyStarted", "start_instance AlreadyPresent", "start_instance MaxChildren"),
    *("tick", "continued", "idle", "deferred", "forwarded", "inspect", "poison"),
    *(
        "down",
        "demonitored",
        "linked",
        "unlinked",
        "exited",
        "exited: one of a group",
        "ended by a link",
        "joined",
        "left",
    ),
    *(f"overflow: {what}" for what in ("drop_oldest", "drop_newest", "diverted")),
    *("what was kept is handed over", "what was kept is dropped"),
    *("replied", "reply refused", "revoked", "a guest has left", "partition", "partition down"),
    *("send to a group", "send to a group: refused", "drain: done", "drain: given back"),
    *(f"request {how}" for how in ("answered", "abandoned", "done unseen", "NotAlive", "MailboxFull")),
    *("name taken", "a child refuses to stop", "an init hangs"),
    *(f"end: {how}" for how in ("leave", "drain", "cancel", "raise", "budget")),
    *("send", "send NotAlive", "send MailboxFull", "send NoMailbox", "send by name", "call cancelled"),
    *(f"call {how}" for how in ("answered", "CallTimeout", "NotAlive", "MailboxFull", "NoMailbox", "CallingSelf")),
    *("start_child", "start_child AlreadyStarted", "start_child AlreadyPresent", "start_child FailedToStart"),
    *("start_instance", "start_instance FailedToStart", "start_instance WrongStrategy"),
    *("restart_child", "restart_child ChildRunning", "restart_child ChildRestarting", "restart_child FailedToStart"),
    *("terminate_child", "delete_child", "delete_child ChildRunning", "delete_child ChildRestarting"),
    *(f"{what} ChildNotFound" for what in ("restart_child", "terminate_child", "delete_child")),
    *(f"{what} SupervisorStopped" for what in ("start_child", "start_instance", "restart_child", "terminate_child")),
}


def test_some_hundred_rounds():
    happened = soak(range(600))
    assert set(happened) >= MUST_HAPPEN, sorted(MUST_HAPPEN - set(happened))


def test_one_round():
    """For repeating one: SOAK_SEED says which."""
    one_round(int(SEED or 0))


def test_a_round_repeats_itself():
    assert one_round(3) == one_round(3) != one_round(4)


@pytest.mark.soak
def test_ten_minutes(capsys):
    faulthandler.cancel_dump_traceback_later()  # that is for tests that hang
    first = SystemRandom().randrange(10**9) if SEED is None else int(SEED)
    with capsys.disabled():
        print(f"\nsoak: {SECONDS:g} s from seed {first}")  # noqa: T201
    sizes: list[int] = []
    happened = soak(until(time.monotonic() + SECONDS, first), after=lambda: sizes.append(resident()))
    with capsys.disabled():
        print(f"soak: {len(sizes)} rounds, {dict(sorted(happened.items()))}")  # noqa: T201
    early, late = median(sizes[len(sizes) // 5 : len(sizes) // 5 * 2]), median(sizes[-len(sizes) // 5 :])
    assert late - early < 5_000_000, f"the process has grown from {early} to {late} bytes"


def until(end: float, first: int) -> Iterator[int]:
    for seed in count(first):
        if time.monotonic() > end:
            return
        yield seed


def soak(seeds: Iterable[int], after: Callable[[], object] = lambda: None) -> Counter[str]:
    """Run these rounds, and see that none leaves anything behind in memory; what happened."""
    happened: Counter[str] = Counter()
    at_first: int | None = None
    gc.collect()
    gc.freeze()  # so that what was there before is not looked at each time
    try:
        for seed in seeds:
            happened += one_round(seed)
            gc.collect()
            left = Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, NEVER_LEFT))
            assert not left, f"round {seed} has left {left}"
            objects = len(gc.get_objects())
            at_first = objects if at_first is None else at_first
            assert objects < at_first + 1000, (
                f"after round {seed} there are {objects} objects; it began with {at_first}"
            )
            after()
    finally:
        gc.unfreeze()
    return happened


def one_round(seed: int) -> Counter[str]:
    try:
        with real_seconds(60):
            return run_round(seed)
    except BaseException as error:
        again = "SOAK_SEED={} python -m pytest tests/otp/test_soak.py -k test_one_round".format
        error.add_note(f"This was round {seed}. The same once more: {again(seed)}")
        raise


@contextmanager
def real_seconds(limit: int) -> Generator[None]:
    """Virtual time does not pass in a loop without end: this ends it."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"a round has taken more than {limit} s, which is a loop without end")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def resident() -> int:
    """Bytes of this process in memory; 0 where that cannot be read."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
