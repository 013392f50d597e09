"""The demo as a command: its directory, its signals, the files it leaves, its exit status."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from examples.rolling_deploy.events import read_events, write_events
from examples.rolling_deploy.options import Options, parse
from examples.rolling_deploy.run import Run
from examples.rolling_deploy.view import print_audit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.rolling_deploy.report import Report

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status.

    0 if the audit holds, 1 if it does not, 2 for a mistake on the command line, 128 and the signal's number if a signal
    ended the run.
    """
    options = parse(arguments)
    directory = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        outcome = trio.run(_run_until_signalled, options, directory)
        if options.events is not None:
            write_events(options.events, read_events(directory / "events.jsonl"))
    finally:
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if isinstance(outcome, signal.Signals):
        print(f"\n{outcome.name}: all pods are gone, and there is nothing to audit.", file=sys.stderr)
        return 128 + outcome
    if options.report is not None:
        options.report.write_text(json.dumps(outcome.to_dict(), indent=2) + "\n", encoding="utf-8")
    print_audit(outcome, sys.stdout)
    if options.without:
        print(f"Without {options.without} that had to be." if outcome.problems else "That should not have held.")
    return 0 if outcome.holds else 1


async def _run_until_signalled(options: Options, directory: Path) -> Report | signal.Signals:
    outcome: Report | signal.Signals | None = None
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                nonlocal outcome
                async for number in signals:
                    outcome = signal.Signals(number)
                    nursery.cancel_scope.cancel()

            async def run() -> None:
                nonlocal outcome
                outcome = await Run(options, directory).run()
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            nursery.start_soon(run)
    if outcome is None:
        raise AssertionError("a run ends with a report or by a signal")
    return outcome
