"""`python -m service.process.serve`: gunicorn with this package's own configuration, for `inferer serve`."""

from __future__ import annotations

import sys

from gunicorn.app.wsgiapp import WSGIApplication

from service.process import gunicorn_config


class _Application(WSGIApplication):  # type: ignore[misc]  # gunicorn has no types
    def chdir(self) -> None:
        """Stay in the working folder, and keep it off the import path, where gunicorn would put it first."""


if __name__ == "__main__":
    sys.argv[1:] = ["-c", f"python:{gunicorn_config.__name__}", "service.app:app_or_exit()"]
    _Application("%(prog)s", prog="inferer serve").run()
