"""The plot: which version is rolled out when, and which jobs are published meanwhile.

::

    version 1 -------------> version 2 ------------------------> version 3
    jobs of schema 1         (rolled out while they run)         (rolled out while they run)
                                     jobs of schema 2: pods of
                                     version 2 do not know them
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio

from examples.rolling_deploy.events import EventWriter, Kind, event_now
from examples.rolling_deploy.payloads import NEWEST_SCHEMA, analyse
from examples.rolling_deploy.store import jobs_queue, totals_inbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.rolling_deploy.controller import Controller
    from examples.rolling_deploy.corpus import Group
    from examples.rolling_deploy.watch import Watch
    from otp.engines import Engine

_FIRST_PART = 0.6
"""The share of the jobs that is published in schema 1."""
_STEPS_BEFORE = 4
"""Steps that have been saved before the first rollout begins: there is something to lose."""


class Plot:
    """What is played on ``store`` by ``controller``, and told to ``events``."""

    def __init__(self, store: Engine[Any], controller: Controller, events: EventWriter) -> None:
        """Nothing is published yet."""
        self._store = store
        self._controller = controller
        self._events = events
        self.published: dict[str, str] = {}
        """The published jobs' names, by their ids in the queue."""

    async def play(self, groups: Sequence[Group], factor: int, watch: Watch) -> None:
        """Play it to its end: all work is done, all pods have ended."""
        controller = self._controller
        first = math.ceil(len(groups) * _FIRST_PART)
        async with trio.open_nursery() as nursery:
            await self._publish(groups[:first], factor, 1)
            await nursery.start(controller.run)
            await controller.wait_rolled_out()
            await watch.until(Kind.STEP_RUN, _STEPS_BEFORE)

            controller.apply(controller.deployment.with_template(VERSION="2"))
            await controller.wait_rolled_out()

            # The publisher is a version ahead of the pods. Its jobs come before those that still wait, so that pods of
            # version 2 meet them: they leave them in the queue.
            await self._publish(groups[first:], factor, NEWEST_SCHEMA, priority=-1)
            if groups[first:]:
                await watch.until(Kind.JOB_SET_ASIDE, 1)
            controller.apply(controller.deployment.with_template(VERSION="3", SCHEMA=str(NEWEST_SCHEMA)))
            await controller.wait_rolled_out()

            await self._until_all_is_done()
            await controller.stop()
            nursery.cancel_scope.cancel()

    async def _publish(self, groups: Sequence[Group], factor: int, schema: int, *, priority: int = 0) -> None:
        payloads = [analyse(group, factor, schema) for group in groups]
        names = [group.job for group in groups]
        results = await jobs_queue(self._store, schema).put_many(payloads, ids=names, priority=priority)
        for name, result in zip(names, results, strict=True):
            self.published[result.job_id] = name
            self._events.write(event_now(Kind.JOB_PUBLISHED, job=name, detail={"schema": schema}))

    async def _until_all_is_done(self) -> None:
        queue, inbox = jobs_queue(self._store, NEWEST_SCHEMA), totals_inbox(self._store)
        while True:
            jobs, entries = await queue.statistics(), await inbox.statistics()
            if not (jobs.ready or jobs.delayed or jobs.running or jobs.set_aside or entries.depth):
                return
            await trio.sleep(0.25)
