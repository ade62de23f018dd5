"""gunicorn's threaded worker, with one change: a connection is closed by the thread that answered on it.

gunicorn 27.0.1 closes it on the thread that accepts, and lingers there for up to 2 s while the client keeps its
side open: one such client held up everybody, health checks too, and a hundred of them for minutes.
"""

from __future__ import annotations

import contextlib
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """The worker class named in gunicorn.conf.py."""

    def handle(self, conn: TConn) -> Any:
        """Answer the request on `conn`; close it here when it is not kept alive."""
        keep = super().handle(conn)
        if not keep:
            with contextlib.suppress(OSError):
                conn.close(graceful=True)
            conn.close = _closed  # the accepting thread closes once more
        return keep


def _closed(graceful: bool = False) -> None:
    """Do nothing: the connection is closed already."""
