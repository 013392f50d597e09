"""The benchmarks: ``make bench``, or ``make bench ARGS=otp`` for one of them; what follows its name are its options."""

import sys

from benchmarks import runtime, sqlite_engine

BENCHMARKS = {"otp": runtime.main, "sqlite": sqlite_engine.main}


def main(arguments: list[str]) -> int:
    """Run the benchmark that is named first, or all; return 1 if one of them missed what it must reach."""
    name, options = (arguments[0], arguments[1:]) if arguments else (None, [])
    if name is not None and name not in BENCHMARKS:
        print(f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    missed = [benchmark(options) for each, benchmark in BENCHMARKS.items() if name in (None, each)]
    return max(missed)


if __name__ == "__main__":  # some benchmarks start processes, which import this module
    sys.exit(main(sys.argv[1:]))
