"""`python -m service.process.serve`: gunicorn with this package's own configuration, for `inferer serve`."""

from __future__ import annotations

import sys

from gunicorn.app.wsgiapp import run

# Imported before gunicorn puts the working folder first on the path: a package `service` there must not take its place.
from service.process import gunicorn_config

if __name__ == "__main__":
    sys.argv[1:] = ["-c", f"python:{gunicorn_config.__name__}", "service.app:app_or_exit()"]
    run(prog="inferer serve")
