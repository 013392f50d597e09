"""The rolling-deploy demo: ``python -m examples.rolling_deploy``; ``--help`` explains the options."""

from __future__ import annotations

import sys

from examples.rolling_deploy.options import parse
from examples.rolling_deploy.run import main

if __name__ == "__main__":
    sys.exit(main(parse()))
