"""What the demo is told on its command line."""

from __future__ import annotations

import argparse
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from examples.rolling_deploy.corpus import DEFAULT_JOBS, DEFAULT_MODULES
from examples.rolling_deploy.unprotected import PROTECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

FAULTS = ("term", "kill", "pause")
RESUMED = 3

_EPILOG = """\
The exit status is 0 only when the audit holds: nothing lost, nothing dead, no effect twice, totals equal to the truth,
no attempt burnt by the deploy, no finished step repeated, enough jobs resumed from a checkpoint.
"""


@frozen(kw_only=True)
class Options:
    """The command line, checked. Durations are in seconds."""

    jobs: int
    modules: int
    work_factor: int | None
    faults: tuple[str, ...]
    times: int
    seed: int
    without: str
    grace: float | None
    lease: float
    replicas: int | None
    limit: float
    expect_resumed: int
    report: Path | None
    events: Path | None
    keep: bool


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; on a mistake, say what is wrong and exit with 2."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.rolling_deploy",
        description="Replace a running deployment twice, version 1 by 2 by 3, while work is in flight; then audit that "
        "nothing was lost or done twice, and that interrupted jobs went on where they were.",
        epilog=_EPILOG,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--jobs", type=int, default=DEFAULT_JOBS, help="how many jobs are published")
    add("--modules", type=int, default=DEFAULT_MODULES, help="modules of the standard library per job")
    add("--work-factor", type=int, help="how often each comparison is computed; measured at start by default")
    add(
        "--faults",
        default="",
        metavar="KIND[,KIND]",
        help="random pods at random moments: term (deleted, as by kubectl), kill (SIGKILL), pause (stops itself at a "
        "named point, past its lease, and is continued later)",
    )
    add("--times", type=int, default=2, help="how often each of the --faults strikes")
    add("--seed", type=int, help="of the faults and of the pods' names; drawn, and printed, by default")
    add(
        "--without",
        choices=sorted(PROTECTIONS),
        default="",
        help="switch one protection off, and put in the one fault that makes the damage certain: the audit must fail",
    )
    add("--grace", type=float, help="seconds of terminationGracePeriodSeconds, in place of the manifest's")
    add("--lease", type=float, default=4.0, help="seconds a lease lasts; what the kill of a pod costs in waiting")
    add("--replicas", type=int, help="pods of the deployment, in place of the manifest's")
    add("--limit", type=float, default=300.0, help="seconds after which the run is stopped and audited as it is")
    add(
        "--expect-resumed",
        type=int,
        metavar="JOBS",
        default=RESUMED,
        help="jobs that must have gone on from a checkpoint at least, or the run shows nothing",
    )
    add("--report", type=Path, metavar="FILE", help="write the audit as JSON")
    add("--events", type=Path, metavar="FILE", help="write every event as a line of JSON")
    add("--keep", action="store_true", help="keep the run's directory with the store and the pods' logs")
    given = parser.parse_args(arguments)
    faults = tuple(kind for kind in given.faults.split(",") if kind)
    for kind in faults:
        if kind not in FAULTS:
            parser.error(f"--faults: {kind!r} is none of {', '.join(FAULTS)}")
    for name, least in (("jobs", 1), ("modules", 2), ("times", 1), ("expect_resumed", 0)):
        if getattr(given, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(given, name)}")
    for name in ("work_factor", "grace", "lease", "replicas", "limit"):
        value = getattr(given, name)
        if value is not None and not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0, not {value}")
    for file in (given.report, given.events):
        if file is not None:
            _check_writable(parser, file)
    return Options(
        jobs=given.jobs,
        modules=given.modules,
        work_factor=given.work_factor,
        faults=faults,
        times=given.times,
        seed=random.randrange(1_000_000) if given.seed is None else given.seed,
        without=given.without,
        grace=given.grace,
        lease=given.lease,
        replicas=given.replicas,
        limit=given.limit,
        expect_resumed=given.expect_resumed,
        report=given.report,
        events=given.events,
        keep=given.keep,
    )


def _check_writable(parser: argparse.ArgumentParser, file: Path) -> None:
    """It would be a pity to find out at the end."""
    directory = file.absolute().parent
    if not directory.is_dir():
        parser.error(f"there is no directory {directory} to write {file.name} to")
    if file.is_dir() or not os.access(file if file.exists() else directory, os.W_OK):
        parser.error(f"{file} cannot be written")
