"""The machine's package sources, mounted into a build to keep them out of the Dockerfile."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

_CERTIFICATES = ("/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")


def build_mounts(folder: Path) -> list[str]:
    """Return the `--volume` options that give a build this machine's pip settings, certificates and local packages.

    `folder` takes the settings' file.
    """
    settings = _settings()
    lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items()), ""]
    (folder / "pip.conf").write_text("\n".join(lines), encoding="utf-8")
    local = {path for value in settings.values() for word in value.split() if (path := _local(word))}
    paths = sorted({*(path for path in _CERTIFICATES if Path(path).is_dir()), *local})
    return [f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro", *(f"--volume={path}:{path}:ro" for path in paths)]


def _settings() -> dict[str, str]:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", "install", ":env:"):
            # A setting with several values goes on one line here.
            found[key] = " ".join(str(ast.literal_eval(value)).split())
    return found


def _local(word: str) -> str | None:
    """Return the local file or folder that a setting names; an index has its files beside it."""
    path = Path(urlsplit(word).path if word.startswith("file://") else word)
    if not path.is_absolute() or not path.exists():
        return None
    return str(path.parent if path.name == "simple" else path)
