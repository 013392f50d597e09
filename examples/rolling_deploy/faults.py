"""The demo's hand that kills, deletes and pauses pods, and lets the paused go on."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from examples.rolling_deploy.events import Event, Kind
from examples.rolling_deploy.traps import set_trap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from examples.rolling_deploy.controller import Controller

_WRITE_PATIENCE = 0.7
"""Seconds after which the store counts as locked by a paused pod; on a busy machine a free one may take a while, too."""

PAUSE_POINTS = ("in-handler", "step-saved", "before-finish", "read-before-commit")
"""Where a random pause may strike: outside of any transaction, each of them."""


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
        self._paused: dict[str, Event] = {}
        self._applied_elsewhere: dict[str, trio.Event] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, kinds: tuple[str, ...], times: int, *, within: float) -> None:
        """Strike ``times`` times of each kind within so many seconds from now; go on until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for kind in kinds:
                for _ in range(times):
                    nursery.start_soon(self._strike_after, self._random.uniform(2.0, within), kind, self._random.random())
            await trio.sleep_forever()

    async def _strike_after(self, delay: float, kind: str, choice: float) -> None:
        await trio.sleep(delay)
        while not (pods := [pod for pod in self._controller.pods() if pod.ready and not pod.terminating]):
            await trio.sleep(0.2)
        pod = pods[int(choice * len(pods))].name
        if kind == "kill":
            self._controller.kill(pod)
        elif kind == "term":
            self._controller.delete(pod)
        else:
            set_trap(self._traps, PAUSE_POINTS[int(choice * 997) % len(PAUSE_POINTS)], "pause", pod)

    def take(self, event: Event) -> None:
        """Look at an event: who paused is to be continued."""
        if event.kind is Kind.FAULT and event.detail.get("kind") == "pause" and self._nursery is not None:
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
            # The point is outside of any, but a thread of the pod may have been writing for something else. A file
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
        async with trio.open_nursery() as nursery:

            async def continue_if_blocked() -> None:
                nonlocal blocked
                await trio.sleep(_WRITE_PATIENCE)
                blocked = True
                self._controller.resume(pod)

            nursery.start_soon(continue_if_blocked)
            await self._write()
            nursery.cancel_scope.cancel()
        return blocked
