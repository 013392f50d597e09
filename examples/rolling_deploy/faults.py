"""The demo's hand that kills, deletes and pauses pods, and lets the paused go on."""

from __future__ import annotations

import random
from itertools import cycle
from typing import TYPE_CHECKING

import trio

from examples.rolling_deploy.analysis import step_names
from examples.rolling_deploy.events import Event, Kind
from examples.rolling_deploy.traps import set_trap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from examples.rolling_deploy.controller import Controller

PAUSE_POINTS = ("in-handler", "step-saved", "before-finish", "read-before-commit")
"""Where a random pause may strike: outside of any transaction, each of them."""

_EARLIEST, _LATEST = 0.05, 0.6
"""Faults strike while this share of all steps is done, so that work is in flight on machines of any speed."""
_WRITE_PATIENCE = 0.7
"""Seconds after which the store counts as locked by a paused pod; on a busy machine a free one may take a while."""
_STOP_PATIENCE = 0.05
"""Seconds from the announcement of a pause until the process has surely stopped."""


class Faults:
    """Strikes random pods at random moments, all drawn from one seed."""

    def __init__(
        self, controller: Controller, traps: Path, *, seed: int, lease: float, write: Callable[[], Awaitable[object]]
    ) -> None:
        """Put traps into the directory ``traps``; a paused pod is continued some time after ``lease`` seconds.

        ``write`` writes something to the store: it hangs when a pod was stopped in the middle of a transaction.
        """
        self._controller = controller
        self._write = write
        self._traps = traps
        self._lease = lease
        self._random = random.Random(f"faults {seed}")
        # All different at first: a trap that is set twice before somebody comes by is one trap.
        self._pause_points = cycle(self._random.sample(PAUSE_POINTS, len(PAUSE_POINTS)))
        self._steps = 0
        self._stepped = trio.Event()
        self._applied_elsewhere: dict[str, trio.Event] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, kinds: Sequence[str], times: int, jobs: int) -> None:
        """Strike ``times`` times of each kind while so many jobs are computed; go on until cancelled."""
        steps = jobs * len(step_names())
        async with trio.open_nursery() as self._nursery:
            for kind in kinds:
                for _ in range(times):
                    after = int(steps * self._random.uniform(_EARLIEST, _LATEST))
                    choice = self._random.random()
                    self._nursery.start_soon(self._strike, kind, after, self._random.uniform(0.0, 0.5), choice)
            await trio.sleep_forever()

    async def _strike(self, kind: str, after: int, delay: float, choice: float) -> None:
        while self._steps < after:
            await self._stepped.wait()
        await trio.sleep(delay)
        if kind == "pause":
            # Whoever comes by first: not every pod comes by everywhere.
            set_trap(self._traps, next(self._pause_points), "pause")
            return
        pods = await self._controller.wait_serving()
        pod = pods[int(choice * len(pods))].name
        if kind == "kill":
            self._controller.kill(pod)
        else:
            self._controller.delete(pod)

    def take(self, event: Event) -> None:
        """Look at an event: who paused is to be continued."""
        if event.kind is Kind.STEP_RUN:
            self._steps += 1
            stepped, self._stepped = self._stepped, trio.Event()
            stepped.set()
        elif event.kind is Kind.FAULT and event.detail.get("kind") == "pause" and self._nursery is not None:
            self._applied_elsewhere[event.pod] = trio.Event()
            self._nursery.start_soon(self._continue_later, event)
        elif event.kind is Kind.ENTRY_APPLIED:
            for pod, applied in self._applied_elsewhere.items():
                if pod != event.pod:
                    applied.set()

    async def _continue_later(self, event: Event) -> None:
        """Continue a paused pod: past its lease, and an aggregator only after its standby has counted something."""
        point = str(event.detail["point"])
        if await self._stopped_in_a_transaction(event.pod):
            # The point is outside of any, but another thread of the pod was writing for something else. A file that is
            # locked for seconds is another demonstration than this one: once more.
            set_trap(self._traps, point, "pause", event.pod)
            return
        await trio.sleep(self._lease * 1.25)
        if point == "read-before-commit":
            with trio.move_on_after(self._lease * 4):
                await self._applied_elsewhere[event.pod].wait()
        self._controller.resume(event.pod)

    async def _stopped_in_a_transaction(self, pod: str) -> bool:
        """Whether the paused pod holds the store's write lock; if so it is continued at once."""
        blocked = False

        async def continue_if_blocked() -> None:
            nonlocal blocked
            await trio.sleep(_WRITE_PATIENCE)
            blocked = True
            self._controller.resume(pod)

        await trio.sleep(_STOP_PATIENCE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(continue_if_blocked)
            await self._write()
            nursery.cancel_scope.cancel()
        return blocked
