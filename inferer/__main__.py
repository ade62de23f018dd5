"""`python -m inferer BUNDLE TEXT…`, the same as the command `inferer predict`."""

import sys

from inferer.command.predict import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m inferer"))
