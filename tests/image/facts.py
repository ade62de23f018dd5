"""The contents of an image, listed inside a container by the standard library and printed as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.image.engine import Podman

# As root, to see every file.
_SCRIPT = """
import importlib.metadata, importlib.util, json, os, stat
files = {}
for top in ("bin", "app", "etc", "home", "lib", "model", "opt", "root", "sbin", "srv", "usr", "var"):
    for folder, folders, names in os.walk("/" + top):
        for name in folders + names:
            path = os.path.join(folder, name)
            found = os.lstat(path)
            caps = "security.capability" in os.listxattr(path, follow_symlinks=False)
            files[path] = [found.st_mode, found.st_uid, found.st_gid, found.st_size, caps]
packages = sorted(d.metadata["Name"].lower().replace("_", "-") for d in importlib.metadata.distributions())
print(json.dumps({"files": files, "packages": packages, "uncompiled": [
    path for path in files if path.startswith("/app/") and path.endswith(".py")
    and not os.path.exists(importlib.util.cache_from_source(path))]}))
"""


@dataclass(frozen=True)
class File:
    """One file or folder of an image."""

    mode: int
    uid: int
    gid: int
    size: int
    has_capabilities: bool


@dataclass(frozen=True)
class Facts:
    """An image, and its additions to its base."""

    added: dict[str, File]
    added_packages: tuple[str, ...]  # Python distributions
    uncompiled: tuple[str, ...]  # sources of ours without bytecode
    size_above_base: int  # bytes of the layers above the base
    config: dict[str, Any]  # User, Env, Cmd, …
    history: tuple[str, ...]  # its build commands, oldest first


def read_facts(podman: Podman, image: str, base: str) -> Facts:
    """Read an image that was built on `base`."""
    ours, theirs = _look(podman, image), _look(podman, base)
    inspected, below = podman.inspect(image), podman.inspect(base)
    files = {path: File(*values) for path, values in ours["files"].items() if theirs["files"].get(path) != values}
    return Facts(
        added=files,
        added_packages=tuple(sorted(set(ours["packages"]) - set(theirs["packages"]))),
        uncompiled=tuple(ours["uncompiled"]),
        size_above_base=inspected["Size"] - below["Size"],
        config={**inspected["Config"], "Healthcheck": inspected.get("HealthCheck") or inspected.get("Healthcheck")},
        history=tuple(step["created_by"] for step in inspected["History"]),
    )


def _look(podman: Podman, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        podman.output(image, "python", "-c", _SCRIPT, options=("--user=0:0", "--entrypoint="))
    )
    return found
