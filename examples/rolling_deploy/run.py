"""One run of the demo, from the publishing of the jobs to the audit.

::

    version 1 ----------> version 2 ------------------> version 3
    jobs of schema 1      (rolled while they run)       jobs of schema 2 are published while pods of version 2, which do not
                                                        know them, are still there
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from attrs import evolve

from examples.rolling_deploy import manifest
from examples.rolling_deploy.analysis import calibrate
from examples.rolling_deploy.audit import Expectation, Report, audit
from examples.rolling_deploy.controller import Controller
from examples.rolling_deploy.corpus import DEFAULT_JOBS, Group, deal
from examples.rolling_deploy.events import Event, EventTail, EventWriter, Kind, event_now, read_events, write_events
from examples.rolling_deploy.faults import Faults
from examples.rolling_deploy.lifeline import Lifeline
from examples.rolling_deploy.payloads import NEWEST_SCHEMA, analyse
from examples.rolling_deploy.pod import jobs_queue, open_store, totals_inbox
from examples.rolling_deploy.processes import GroupLauncher
from examples.rolling_deploy.totals import create_tables, read_effects, read_totals
from examples.rolling_deploy.traps import set_trap
from examples.rolling_deploy.unprotected import PROTECTIONS
from examples.rolling_deploy.view import View, open_view, print_audit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkpoints import Inbox
    from examples.rolling_deploy.options import Options
    from otp.engines import Engine
    from queues import Queue

ROOT = Path(__file__).parents[2]
RESUMED = 3
"""How many jobs at least must have gone on from a checkpoint, in a run that is long enough to show it."""
FIRST_PART = 0.6
"""The share of the jobs that is published before the first rollout, in schema 1."""


def main(options: Options) -> int:
    """Run the demo; the exit status: 0 if the audit holds, 1 if it does not, 130 after Ctrl-C."""
    directory = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        # What is ended by SIGTERM cleans up, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        report = trio.run(Run(options, directory).run)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or (
            isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt) is not None
        ):
            print("\ninterrupted: all pods are gone, there is nothing to audit", file=sys.stderr)
            return 130
        raise
    finally:
        if options.events is not None:
            write_events(options.events, read_events(directory / "events.jsonl"))
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    print_audit(report, sys.stdout)
    if options.report is not None:
        options.report.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    return 0 if report.holds else 1


class Run:
    """The run in ``directory``."""

    def __init__(self, options: Options, directory: Path) -> None:
        """Nothing is started yet."""
        self._options = options
        self._directory = directory
        self._events = EventWriter(directory / "events.jsonl")
        self._tail = EventTail(directory / "events.jsonl")
        self._url = f"sqlite:///{directory / 'demo.db'}"
        self._published: dict[str, str] = {}
        self._progress: dict[Kind, int] = {}
        self._truth: dict[str, int] = {}

    async def run(self) -> Report:
        """Run, and judge."""
        options, began = self._options, time.monotonic()
        print(f"Dealing {options.jobs} jobs of {options.modules} modules of the standard library; seed {options.seed}")
        groups = deal(options.jobs, options.modules)
        factor = options.work_factor or calibrate(groups)
        print(f"Work factor {factor}; the truth is computed in a process of its own meanwhile")
        store = open_store(self._url, options.lease)
        with Lifeline() as lifeline:
            async with store, trio.open_nursery() as nursery:
                nursery.start_soon(self._compute_truth)
                await create_tables(store)
                controller = self._controller(lifeline)
                with trio.move_on_after(options.limit):
                    await self._deploy(store, controller, groups, factor)
                nursery.start_soon(self._tell_if_slow)
                with trio.move_on_after(60):
                    while not self._truth:
                        await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            async with store:
                return await self._audit(store, controller, time.monotonic() - began)

    async def _tell_if_slow(self) -> None:
        await trio.sleep(2)
        print("waiting for the truth", file=sys.stderr)

    def _controller(self, lifeline: Lifeline) -> Controller:
        options = self._options
        deployment = manifest.load()
        if options.replicas is not None:
            deployment = evolve(deployment, replicas=options.replicas)
        grace = options.grace or deployment.template.grace
        return Controller(
            deployment.with_template(grace=grace),
            GroupLauncher(lifeline, directory=ROOT),
            self._events.write,
            directory=self._directory,
            env={
                "STORE_URL": self._url,
                "EVENTS_FILE": str(self._directory / "events.jsonl"),
                "LEASE_SECONDS": str(options.lease),
                "WITHOUT": options.without,
                # What the process needs after its drain: to close the store and to leave the interpreter.
                "DRAIN_SECONDS": str(max(grace * 0.4, grace - 5)),
            },
            seed=options.seed,
        )

    # -- the plot

    async def _deploy(self, store: Engine[Any], controller: Controller, groups: Sequence[Group], factor: int) -> None:
        options = self._options
        first = math.ceil(len(groups) * FIRST_PART)
        traps = self._directory / "traps"
        if options.without:
            set_trap(traps, *PROTECTIONS[options.without])
        faults = Faults(
            controller, traps, seed=options.seed, lease=options.lease, write=partial(create_tables, store)
        )
        queues = {schema: jobs_queue(store, schema) for schema in (1, NEWEST_SCHEMA)}
        async with trio.open_nursery() as nursery:
            with open_view(sys.stdout) as view:
                nursery.start_soon(self._watch, view, faults)
                await self._publish(queues[1], groups[:first], factor, 1)
                await nursery.start(controller.run)
                nursery.start_soon(partial(faults.run, options.faults, options.times, within=20.0))
                await controller.wait_rolled_out()
                await self._until(Kind.STEP_RUN, 4)
                controller.apply(controller.deployment.with_template(VERSION="2"))
                await controller.wait_rolled_out()
                controller.apply(controller.deployment.with_template(VERSION="3", SCHEMA=str(NEWEST_SCHEMA)))
                await self._publish(queues[NEWEST_SCHEMA], groups[first:], factor, NEWEST_SCHEMA)
                await controller.wait_rolled_out()
                await self._until_quiet(queues[NEWEST_SCHEMA], totals_inbox(store))
                await controller.stop()
                nursery.cancel_scope.cancel()
                self._show(view, faults)

    async def _publish(self, queue: Queue[Any], groups: Sequence[Group], factor: int, schema: int) -> None:
        payloads = [analyse(group, factor, schema) for group in groups]
        results = await queue.put_many(payloads, ids=[group.job for group in groups])
        for group, result in zip(groups, results, strict=True):
            self._published[result.job_id] = group.job
            self._events.write(event_now(Kind.JOB_PUBLISHED, job=group.job, detail={"schema": schema}))

    async def _until(self, kind: Kind, times: int) -> None:
        while self._progress.get(kind, 0) < times:
            await trio.sleep(0.1)

    async def _until_quiet(self, queue: Queue[Any], inbox: Inbox[Any]) -> None:
        """Until neither the queue nor the inbox has anything left."""
        while True:
            jobs, entries = await queue.statistics(), await inbox.statistics()
            if not (jobs.ready or jobs.delayed or jobs.running or jobs.set_aside or entries.depth):
                return
            await trio.sleep(0.25)

    # -- watching

    async def _watch(self, view: View, faults: Faults) -> None:
        while True:
            self._show(view, faults)
            await trio.sleep(0.2)

    def _show(self, view: View, faults: Faults) -> None:
        events = self._tail.poll()
        for event in events:
            self._take(event)
            faults.take(event)
        view.show(events, time.monotonic())

    def _take(self, event: Event) -> None:
        self._progress[event.kind] = self._progress.get(event.kind, 0) + 1

    # -- judging

    async def _compute_truth(self) -> None:
        options = self._options
        done = await trio.run_process(
            [
                sys.executable,
                "-m",
                "examples.rolling_deploy.truth",
                *("--jobs", str(options.jobs), "--modules", str(options.modules)),
            ],
            capture_stdout=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "random"},
        )
        self._truth = json.loads(done.stdout)

    async def _audit(self, store: Engine[Any], controller: Controller, seconds: float) -> Report:
        letters = await jobs_queue(store, NEWEST_SCHEMA).dead.list(limit=10_000)
        events = read_events(self._directory / "events.jsonl")
        return audit(
            self._published.values(),
            events,
            (await read_totals(store)).to_dict(),
            self._truth,
            await read_effects(store),
            [self._published.get(letter.id, letter.id) for letter in letters],
            controller.exit_codes,
            seconds=seconds,
            seed=self._options.seed,
            expect=Expectation(jobs_resumed=RESUMED if self._options.jobs >= DEFAULT_JOBS else 0),
        )
