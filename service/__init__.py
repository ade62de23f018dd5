"""The HTTP layer: a Flask application around one ModelInferer, made by `create_app`.

gunicorn's configuration imports service.settings before the fork, so this package must not import onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from inferer import ModelInferer
    from service.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings | None = None, inferer: ModelInferer | None = None) -> Flask:
    """Return the WSGI application.

    settings: by default from the environment. inferer: by default the model of `settings.bundle`, which is loaded,
    checked and warmed up here. Raises SettingsError or InfererError.
    """
    from service.app import build

    return build(settings, inferer)
