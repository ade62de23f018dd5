"""gunicorn's processes: worker, reload, start-up and their resources."""
