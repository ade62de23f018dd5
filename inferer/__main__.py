"""`python -m inferer BUNDLE TEXT…` is `inferer predict`; with a command in place of the bundle it is that command."""

import sys

from inferer.command import main as command
from inferer.command import predict

if __name__ == "__main__":
    is_command = sys.argv[1:2] and sys.argv[1] in command.COMMANDS
    sys.exit(command.main() if is_command else predict.main(prog="python -m inferer"))
