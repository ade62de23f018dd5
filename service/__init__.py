"""The HTTP layer: Flask around one ModelInferer. `create_app` is the way in.

Importing this package must not bring in onnxruntime: gunicorn.conf.py reads service.settings before
the fork.
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

    settings: by default those of the environment. inferer: by default the model of
    `settings.bundle`, loaded, checked and warmed up here. Raises SettingsError or InfererError.
    """
    from service.app import build

    return build(settings, inferer)
