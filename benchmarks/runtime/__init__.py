"""The actors and supervisors of `otp` beside bare trio and beside their peers. ``make bench ARGS=otp``.

Each row is a ratio of two figures taken in the same run, since the figures themselves depend on the machine. Both
sides run in turn, several times. Beside trio the best runs are compared, which have least of what else the machine did
in them; beside peers and in crowds, where runs differ by themselves, it is the median of the ratios of neighbours. The
garbage collector runs in all of them as it does for users. What a row measures, and leaves out, is said where it is
measured.
"""

import argparse
from collections.abc import Callable
from typing import Final

from . import events, lives, messages, peers
from .table import Row, show

SECTIONS: Final[dict[str, Callable[[], list[Row]]]] = {
    "messages": messages.measure,
    "peers": peers.measure,
    "spawn": lives.spawn,
    "events": events.measure,
    "crowd": lives.crowd,
}


def main(arguments: list[str]) -> int:
    """Measure, print the table, and return 1 if something missed what it must reach."""
    parser = argparse.ArgumentParser(prog="benchmarks otp", description="The actors of otp beside trio and peers.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; default: all")
    sections = parser.parse_args(arguments).sections or list(SECTIONS)
    for name in sections:
        if name not in SECTIONS:
            parser.error(f"there is no section {name!r}; there are {', '.join(SECTIONS)}")
    rows = [row for name in sections for row in SECTIONS[name]()]
    show("otp, beside bare trio and beside its peers", rows)
    if "crowd" in sections:
        print("The memory of an idle actor, in bytes, by the module that asked for it:", lives.memory())
    return int(any(row.missed for row in rows))
