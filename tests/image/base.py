"""A stand-in for python:3.11-slim, made from Debian's packages: the same Python, user and paths, no registry needed."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.image.engine import Podman

TAG = "localhost/python:3.11-slim"
_SUITE = "bookworm"  # its Python is 3.11
_PACKAGES = "python3,python3-venv,ca-certificates"
# As in the official image `python` and `pip` lie in /usr/local; the build mounts its settings as pip.conf.
_HOOKS = ('chroot "$1" python3 -m venv /usr/local', 'touch "$1/etc/pip.conf"')
_PATH = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def _archive() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inferer-tests"
    recipe = "\n".join((_SUITE, _PACKAGES, *_HOOKS))
    return cache / f"base-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"


def load_base(podman: Podman) -> str:
    """Import the stand-in into `podman` and return its tag; it is made once (30 s) and kept in the user's cache."""
    archive = _archive()
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        made = archive.with_suffix(f".{os.getpid()}.part.tar")
        hooks = [f"--customize-hook={hook}" for hook in _HOOKS]
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={_PACKAGES}", *hooks, _SUITE]
        try:
            done = subprocess.run([*command, str(made)], capture_output=True, text=True, check=False, timeout=600)
            assert done.returncode == 0, done.stderr[-4000:]
            made.replace(archive)
        finally:
            made.unlink(missing_ok=True)
    podman("import", f"--change=ENV {_PATH}", '--change=CMD ["python3"]', str(archive), TAG)
    return TAG
