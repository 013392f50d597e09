"""All benchmarks there are: ``make bench``."""

from benchmarks import sqlite_engine

sqlite_engine.main()
