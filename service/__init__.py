"""The HTTP layer: a Flask application around one ModelInferer; service/app.py creates it.

gunicorn's configuration imports service.settings before the fork, so this package must not import onnxruntime.
"""
