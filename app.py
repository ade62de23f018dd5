"""WSGI entry: `gunicorn app:app`. Importing it loads, checks and warms up the model once."""

from service.app import app_or_exit

app = app_or_exit()
