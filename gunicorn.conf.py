"""The configuration of `gunicorn app:app`, which finds this file by its name; the wheel has it without this file."""

from service.process.gunicorn_config import *  # noqa: F403 - gunicorn reads the names
