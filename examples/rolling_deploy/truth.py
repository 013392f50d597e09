"""The truth: what the figures must come to, computed in one plain process.

Nothing of the pods' machinery is used here: no queue, no checkpoint, no slices, no work factor, one loop.
Every step's figures are independent of the work factor, since it only repeats a computation whose outcome
must stay the same (:mod:`examples.rolling_deploy.analysis`), so the truth needs only one round.

As a command, ``python -m examples.rolling_deploy.truth --jobs 36 --modules 6`` prints the totals as JSON.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from examples.rolling_deploy.analysis import Figures, compare, parse, read, summarise, tokenize
from examples.rolling_deploy.corpus import DEFAULT_JOBS, DEFAULT_MODULES, Group, deal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "truth"]


def truth(groups: Sequence[Group]) -> Figures:
    """The totals over all groups."""
    total = Figures()
    for group in groups:
        modules = group.modules
        total += summarise(modules, read(modules), tokenize(modules), parse(modules), [compare(modules, 0, 1)])
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the totals as one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=DEFAULT_JOBS, help="how many jobs (default: %(default)s)")
    parser.add_argument(
        "--modules", type=int, default=DEFAULT_MODULES, help="modules of each job (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    print(json.dumps(truth(deal(options.jobs, options.modules)).to_dict()))


if __name__ == "__main__":
    main()
