"""The training image: JupyterLab on the pinned packages, in a folder of the user's. Gigabytes: not in `make test`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.image.container import Container
from tests.image.engine import Podman
from tests.image.test_running import FULL
from tests.support.server import ROOT, Reply

TOKEN = "a-token-of-this-test"

pytestmark = pytest.mark.skipif(
    not FULL and not os.environ.get("CI"), reason="the training image takes gigabytes: make soak, or CI=true"
)


@pytest.fixture(scope="module")
def training_image(podman: Podman, base: str) -> str:
    """The Dockerfile's target `training`."""
    index = {"TORCH_INDEX": os.environ["TORCH_INDEX"]} if os.environ.get("TORCH_INDEX") else {}
    return podman.build("localhost/inferer-training", base, target="training", **index)


def ask(container: Container, path: str) -> Reply:
    """GET from JupyterLab, once it is up."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return container.request("GET", path, Authorization=f"token {TOKEN}")
        except OSError:
            assert time.monotonic() < deadline, container.log()
            time.sleep(0.5)


def test_jupyterlab_shows_the_users_folder(podman: Podman, training_image: str, tmp_path: Path) -> None:
    """As user 1000, on port 8080, JupyterLab lists the mounted folder, and refuses requests without a token."""
    (tmp_path / "mine.ipynb").write_text("{}")
    os.chown(tmp_path, 1000, 1000)
    options = [f"--volume={tmp_path}:/app/notebooks", f"--env=JUPYTER_TOKEN={TOKEN}"]
    with podman.running(training_image, options=options) as container:
        listed = ask(container, "/api/contents").json()["content"]
        assert [file["name"] for file in listed] == ["mine.ipynb"]
        assert container.request("GET", "/api/contents").status == 403
        assert container.status(container.pid)["Uid"].split()[0] == "1000"


def test_it_has_the_notebooks_and_all_that_they_need(podman: Podman, training_image: str) -> None:
    """The notebooks are inside, WordNet too, the packages have the pinned versions, and training and export start."""
    notebooks = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert podman.output(training_image, "ls", "/app/notebooks").split() == notebooks
    listed = podman.output(training_image, "python", "-m", "pip", "list", "--format=json")
    versions = {package["name"].lower().replace("_", "-"): package["version"] for package in json.loads(listed)}
    for name in ("training", "notebooks", "inference"):
        for line in (ROOT / f"requirements_{name}.txt").read_text(encoding="utf-8").splitlines():
            pinned, _, version = line.partition("==")
            if version and ";" not in line and not line.startswith((" ", "#")):
                assert versions[pinned.lower().replace("_", "-")].partition("+")[0] == version.split()[0]
    assert podman.output(training_image, "ls", "/usr/share/wordnet/data.noun")
    for module in ("training", "export"):
        assert "usage" in podman.output(training_image, "python", "-m", module, "--help")
