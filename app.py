"""WSGI entry: `gunicorn app:app`. Importing it loads, checks and warms up the model once."""

from service.factory import app_or_exit

app = app_or_exit()
