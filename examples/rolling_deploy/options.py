"""What the demo is told on its command line."""

from __future__ import annotations

import argparse
import math
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from examples.rolling_deploy.corpus import DEFAULT_JOBS, DEFAULT_MODULES, Group, deal
from examples.rolling_deploy.manifest import DEFAULT_MANIFEST, Deployment, ManifestError, load
from examples.rolling_deploy.unprotected import PROTECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

FAULTS = ("term", "kill", "pause")
RESUMED = 3
"""Jobs that must have gone on from a checkpoint, if nothing else is said."""

_DESCRIPTION = """\
Replace a running deployment twice, version 1 by 2 by 3, while work is in flight; then audit that nothing was lost or
done twice, and that interrupted jobs went on where they were.
"""
_EPILOG = """\
The exit status is 0 only when the audit holds: nothing lost, nothing dead, no effect twice, totals equal to the truth,
no attempt burnt by the deploy, no finished step repeated, enough jobs resumed from a checkpoint. It is 1 when it does
not hold, 2 for a mistake on this line, 128 and the number of the signal that ended the run.
"""


@frozen(kw_only=True)
class Options:
    """The command line, checked. Durations are in seconds."""

    groups: tuple[Group, ...]
    """The input of each job."""
    modules: int
    work_factor: int | None
    faults: tuple[str, ...]
    times: int
    seed: int
    without: str
    deployment: Deployment
    limit: float
    expect_resumed: int
    report: Path | None
    events: Path | None
    keep: bool


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; on a mistake, say what is wrong and exit with 2."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        _check_numbers(given)
        for file in (given.report, given.events):
            if file is not None:
                _check_writable(file)
        return Options(
            groups=deal(given.jobs, given.modules),
            modules=given.modules,
            work_factor=given.work_factor,
            faults=_faults(given.faults),
            times=given.times,
            seed=random.randrange(1_000_000) if given.seed is None else given.seed,
            without=given.without,
            deployment=_deployment(given),
            limit=given.limit,
            expect_resumed=_expected(given),
            report=given.report,
            events=given.events,
            keep=given.keep,
        )
    except ManifestError as error:
        parser.error(f"--manifest {given.manifest}: {error}")
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    name = "python -m examples.rolling_deploy"
    parser = argparse.ArgumentParser(
        prog=name, usage=f"{name} [options]", description=_DESCRIPTION, epilog=_EPILOG, allow_abbrev=False
    )
    work = parser.add_argument_group("the work")
    add = work.add_argument
    add("--jobs", type=int, default=DEFAULT_JOBS, metavar="N", help="jobs that are published (default: %(default)s)")
    add(
        "--modules",
        type=int,
        default=DEFAULT_MODULES,
        metavar="N",
        help="modules of the standard library in each job (default: %(default)s)",
    )
    add(
        "--work-factor",
        type=int,
        metavar="N",
        help="how often each comparison is computed (default: measured at start, so that a step takes long enough)",
    )

    deployment = parser.add_argument_group("the deployment")
    add = deployment.add_argument
    add(
        "--manifest",
        type=Path,
        default=DEFAULT_MANIFEST,
        metavar="FILE",
        help="what is deployed (default: k8s/deployment.yaml beside the demo)",
    )
    add("--replicas", type=int, metavar="N", help="how many pods (default: the manifest's)")
    add("--grace", type=float, metavar="SECONDS", help="terminationGracePeriodSeconds (default: the manifest's)")
    add(
        "--lease",
        type=float,
        metavar="SECONDS",
        help="how long a lease lasts, which is what the jobs of a killed pod wait (default: the manifest's)",
    )

    trouble = parser.add_argument_group("trouble")
    add = trouble.add_argument
    add(
        "--faults",
        default="",
        metavar="KIND[,KIND]",
        help="random pods at random moments: term (deleted, as by kubectl), kill (SIGKILL), pause (stops itself at a "
        "named point, past its lease, and is continued later) (default: none)",
    )
    add(
        "--times",
        type=int,
        default=2,
        metavar="N",
        help="how often each of the --faults strikes (default: %(default)s)",
    )
    add("--seed", type=int, metavar="N", help="of the faults and of the pods' names (default: drawn, and printed)")
    add(
        "--without",
        choices=sorted(PROTECTIONS),
        default="",
        help="switch one protection off, and put in the one fault that makes the damage certain: the audit must fail "
        "(default: nothing is switched off)",
    )

    outcome = parser.add_argument_group("the outcome")
    add = outcome.add_argument
    add(
        "--expect-resumed",
        type=int,
        metavar="N",
        help="jobs that must have gone on from a checkpoint, or the run shows nothing "
        f"(default: {RESUMED}; 0 with --without)",
    )
    add(
        "--limit",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="a run that takes longer is stopped, and audited as it is (default: %(default)s)",
    )
    add("--report", type=Path, metavar="FILE", help="write the audit as JSON (default: it is only printed)")
    add("--events", type=Path, metavar="FILE", help="write every event as a line of JSON (default: they are not kept)")
    add(
        "--keep",
        action="store_true",
        help="keep the run's directory with the store and the pods' logs (default: it is removed)",
    )
    return parser


def _expected(given: argparse.Namespace) -> int:
    """A protection that is switched off shall fail for its own reason."""
    if given.expect_resumed is not None:
        return int(given.expect_resumed)
    return 0 if given.without else RESUMED


def _deployment(given: argparse.Namespace) -> Deployment:
    """The manifest's deployment, with what the command line changes in it."""
    deployment = load(given.manifest)
    if given.replicas is not None:
        deployment = evolve(deployment, replicas=given.replicas)
    changes: dict[str, str] = {}
    if given.grace is not None:
        # A pod may not use all of it: it takes a while to leave the interpreter, and the machine may be slow.
        changes["DRAIN_SECONDS"] = str(max(given.grace * 0.7, given.grace - 5))
    if given.without:
        changes["WITHOUT"] = given.without
    if given.lease is not None:
        changes["LEASE_SECONDS"] = str(given.lease)
    elif "LEASE_SECONDS" not in deployment.template.env:
        raise ManifestError("the container must have a variable LEASE_SECONDS")
    return deployment.with_template(grace=given.grace, **changes)


def _check_numbers(given: argparse.Namespace) -> None:
    for name, least in (
        ("work_factor", 1),
        ("replicas", 1),
        ("times", 1),
        ("expect_resumed", 0),
        ("grace", 0.1),
        ("lease", 1.0),
        ("limit", 1.0),
    ):
        value = getattr(given, name)
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


def _faults(words: str) -> tuple[str, ...]:
    faults = tuple(word for word in words.split(",") if word)
    for word in faults:
        if word not in FAULTS:
            raise ValueError(f"--faults: {word!r} is none of {', '.join(FAULTS)}")
    return faults


def _check_writable(file: Path) -> None:
    """It would be a pity to find out at the end."""
    directory = file.absolute().parent
    if not directory.is_dir():
        raise ValueError(f"there is no directory {directory} to write {file.name} to")
    if file.is_dir() or not os.access(file if file.exists() else directory, os.W_OK):
        raise ValueError(f"{file} cannot be written")
