"""How all of this is measured: sides in turn, medians, fresh processes."""

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

now = time.perf_counter


def interleave(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each side once per round, after a garbage collection; return what they returned.

    So what else the machine does meets all of them alike. There is one round before, which is not counted.
    """
    results: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(rounds + 1):
        for name, run in sides.items():
            gc.collect()
            result = run()
            if round_:
                results[name].append(result)
    return results


def ratio(ours: list[float], others: list[float]) -> float:
    """The median of the ratios of the runs that were neighbours."""
    return statistics.median(mine / other for mine, other in zip(ours, others, strict=True))


def rate(per_second: list[float]) -> str:
    """Rates as a figure: their median."""
    return f"{statistics.median(per_second):,.0f}/s"


def best(per_second: list[float]) -> list[float]:
    """The best of several runs: what the code costs, with least of what else the machine did meanwhile."""
    return [max(per_second)]


def milliseconds(seconds: list[float]) -> str:
    """Times as a figure: their median."""
    median = 1e3 * statistics.median(seconds)
    return f"{median:,.0f} ms" if median >= 100 else f"{median:.3g} ms"


def in_fresh_process(function: Callable[..., T], *arguments: object) -> T:
    """What `function` returns in a process that has done nothing before: its memory is not fragmented yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def resident() -> int:
    """How many bytes of this process are in memory; where Linux's /proc is missing, how many ever were."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return pages * resource.getpagesize()
