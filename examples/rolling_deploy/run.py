"""One run of the demo: what it needs is set up, the plot is played, and then it is judged."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import trio

from examples.rolling_deploy.analysis import calibrate
from examples.rolling_deploy.audit import Expectation, audit
from examples.rolling_deploy.controller import Controller
from examples.rolling_deploy.events import EventTail, EventWriter, read_events
from examples.rolling_deploy.faults import Faults
from examples.rolling_deploy.lifeline import Lifeline
from examples.rolling_deploy.payloads import NEWEST_SCHEMA
from examples.rolling_deploy.plot import Plot
from examples.rolling_deploy.processes import GroupLauncher, Launcher
from examples.rolling_deploy.store import jobs_queue, open_store
from examples.rolling_deploy.totals import create_tables, read_effects, read_totals
from examples.rolling_deploy.traps import set_trap
from examples.rolling_deploy.unprotected import PROTECTIONS
from examples.rolling_deploy.view import open_view
from examples.rolling_deploy.watch import Watch

if TYPE_CHECKING:
    from examples.rolling_deploy.options import Options
    from examples.rolling_deploy.report import Report
    from otp.engines import Engine

ROOT = Path(__file__).parents[2]
_TRUTH_PATIENCE = 120.0


class Run:
    """The run in ``directory``, which stands for the volume that the pods of a cluster share."""

    def __init__(self, options: Options, directory: Path) -> None:
        """Nothing is started yet."""
        self._options = options
        self._directory = directory
        self._events = directory / "events.jsonl"
        self._traps = directory / "traps"
        self._lease = float(options.deployment.template.env["LEASE_SECONDS"])
        self._truth: dict[str, int] = {}
        self._truth_known = trio.Event()

    async def run(self) -> Report:
        """Run, and judge."""
        options, began = self._options, time.monotonic()
        groups = options.groups
        _say(f"{len(groups)} jobs of {options.modules} modules of the standard library; seed {options.seed}.")
        factor = options.work_factor or calibrate(groups)
        _say(f"Each comparison is computed {factor} times over; a process of its own computes the truth meanwhile.")
        with Lifeline() as lifeline, EventWriter(self._events) as events:
            launcher = GroupLauncher(lifeline, directory=ROOT)
            controller = Controller(
                options.deployment, launcher, events.write, directory=self._directory, seed=options.seed
            )
            async with self._open_store() as store:
                await create_tables(store)
                plot = Plot(store, controller, events)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._compute_truth, launcher)
                    with trio.move_on_after(options.limit) as limit:
                        await self._play(plot, store, controller, factor)
                    await self._wait_for_truth()
                return await self._judge(
                    store, plot, controller, stopped=limit.cancelled_caught, seconds=time.monotonic() - began
                )

    # -- setting up

    def _open_store(self) -> Engine[Any]:
        return open_store(f"sqlite:///{quote(str(self._directory / 'demo.db'))}", self._lease)

    async def _compute_truth(self, launcher: Launcher) -> None:
        options, told = self._options, list[str]()
        module = "examples.rolling_deploy.truth"
        command = [sys.executable, "-m", module, "--jobs", str(len(options.groups)), "--modules", str(options.modules)]
        async with launcher(command, {"PYTHONHASHSEED": "random"}, told.append) as process:
            code = await process.wait()
        if code:
            raise RuntimeError("the truth could not be computed:\n" + "\n".join(told))
        self._truth = json.loads(told[-1])
        self._truth_known.set()

    async def _wait_for_truth(self) -> None:
        if not self._truth_known.is_set():
            _say("Waiting for the truth.")
        with trio.fail_after(_TRUTH_PATIENCE):
            await self._truth_known.wait()

    # -- playing

    async def _play(self, plot: Plot, store: Engine[Any], controller: Controller, factor: int) -> None:
        options = self._options

        async def write() -> None:
            await create_tables(store)

        if options.without:
            set_trap(self._traps, *PROTECTIONS[options.without])
        faults = Faults(controller, self._traps, seed=options.seed, lease=self._lease, write=write)
        with open_view(sys.stdout) as view:
            watch = Watch(EventTail(self._events), view, faults)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.run)
                nursery.start_soon(faults.run, options.faults, options.times, len(options.groups))
                await plot.play(options.groups, factor, watch)
                nursery.cancel_scope.cancel()
            watch.look()

    # -- judging

    async def _judge(
        self, store: Engine[Any], plot: Plot, controller: Controller, *, stopped: bool, seconds: float
    ) -> Report:
        letters = await jobs_queue(store, NEWEST_SCHEMA).dead.list(limit=10_000)
        return audit(
            plot.published.values(),
            read_events(self._events),
            (await read_totals(store)).to_dict(),
            self._truth,
            await read_effects(store),
            [plot.published.get(letter.id, letter.id) for letter in letters],
            controller.exit_codes,
            seconds=seconds,
            seed=self._options.seed,
            expect=Expectation(jobs_resumed=self._options.expect_resumed),
            stopped_after=self._options.limit if stopped else math.inf,
        )


def _say(line: str) -> None:
    print(line, flush=True)
