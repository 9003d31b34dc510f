"""Run the command line with `python -m latentlog.cli`."""

from __future__ import annotations

import sys

from latentlog.cli.app import main

sys.exit(main())
