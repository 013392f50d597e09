"""The rolling-deploy demo: ``python -m examples.rolling_deploy``; ``--help`` explains the options."""

from __future__ import annotations

import sys

from examples.rolling_deploy.main import main

if __name__ == "__main__":
    sys.exit(main())
