"""`python -m bulk` is the command `inferer predict` for files."""

from __future__ import annotations

import sys

from bulk.command import main

if __name__ == "__main__":
    sys.exit(main())
