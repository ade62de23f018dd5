"""podman with a store of its own: builds the Dockerfile, runs containers as production would, cleans up after itself.

Needs root, and podman, runc and mmdebstrap from Debian. Owns how a container is run; knows nothing of what is checked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.image.container import Container
from tests.image.packages import build_mounts
from tests.support.server import ROOT

NEEDED = ("podman", "runc", "mmdebstrap", "nsenter")

# crun refuses machines that have both kinds of cgroups; without systemd the journal is missing.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
# `podman run` reads it whole, and the default one keeps the events of all runs since the machine started.
events_logfile_path = "{folder}/events.log"
"""
_STORAGE_CONF = """
[storage]
driver = "{driver}"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
# As on a production host: only /tmp is writable, no capability, no network.
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)


def missing() -> str | None:
    """Return the reason that no image can be built here, or None."""
    if os.geteuid() != 0:
        return "building an image here needs root"
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)} (apt-get install podman runc mmdebstrap)" if absent else None


@dataclass(frozen=True)
class Podman:
    """The engine, with its whole store in one folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Podman:
        """Write the engine's settings into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "containers.conf").write_text(_CONTAINERS_CONF.format(folder=folder))
        # "native" overlay mounts do not work where the folder is on an overlay itself.
        kind = subprocess.run(
            ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True
        ).stdout
        driver = "vfs" if kind.strip() == "overlayfs" else "overlay"
        (folder / "storage.conf").write_text(_STORAGE_CONF.format(driver=driver, folder=folder))
        return cls(folder)

    def __call__(self, *arguments: str, check: bool = True, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run `podman ARGUMENTS`; with `check` a failure raises AssertionError with podman's output."""
        done = subprocess.run(
            ["podman", *arguments],
            env=self._environment(),
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            said = textwrap.indent(f"{done.stdout}\n{done.stderr}"[-4000:], "    ")
            raise AssertionError(f"podman {' '.join(arguments)}: exit code {done.returncode}\n{said}")
        return done

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "TMPDIR": str(self.folder),
        }

    def build(
        self,
        tag: str,
        base: str,
        context: Path = ROOT,
        *,
        dockerfile: Path | None = None,
        target: str | None = None,
        **args: str,
    ) -> str:
        """Build `tag` from a Dockerfile on the image `base`, with build arguments; return the tag.

        Without `target` it is the Dockerfile's last stage. This machine's certificates and its way to the package index
        are mounted, not built in.
        """
        self(
            "build",
            "--format=docker",  # the other format drops HEALTHCHECK
            "--network=host",
            "--pull=never",
            "--layers",
            *build_mounts(self.folder),
            *([f"--target={target}"] if target else []),
            f"--build-arg=BASE_IMAGE={base}",
            *(f"--build-arg={name}={value}" for name, value in args.items()),
            f"--file={dockerfile or context / 'Dockerfile'}",
            f"--tag={tag}",
            str(context),
            timeout_s=3000,
        )
        return tag

    def inspect(self, image: str) -> dict[str, Any]:
        """Return the engine's record of an image."""
        found: dict[str, Any] = json.loads(self("image", "inspect", image).stdout)[0]
        return found

    def output(self, image: str, *command: str, options: Sequence[str] = ()) -> str:
        """Run `command` in a hardened container without a network, and return its output."""
        return self("run", "--rm", "--network=none", *HARDENED, *options, image, *command).stdout

    @contextmanager
    def running(
        self, image: str, *command: str, options: Sequence[str] = (), network: str = "none"
    ) -> Iterator[Container]:
        """Start a hardened container; it is removed at the end in any case."""
        name = f"inferer-{uuid.uuid4().hex[:12]}"
        arguments = ("run", "--detach", f"--name={name}", f"--network={network}", *HARDENED, *options, image)
        try:
            self(*arguments, *command)
            yield Container(self, name)
        finally:
            self("rm", "--force", "--time=0", name, check=False)

    def close(self) -> None:
        """Remove all containers and images: a store is gigabytes."""
        self("rm", "--all", "--force", "--time=0", check=False)
        subprocess.run(["umount", "-q", str(self.folder / "storage" / "overlay")], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
