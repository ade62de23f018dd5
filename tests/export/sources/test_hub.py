"""Checkpoints of the hub: the export downloads ORG/NAME where no path here has that name, or says why not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.export.sources.hub_server import COMMIT, hub_of
from tests.support.server import ROOT, run_to_end

FIND = "import sys; from export.__main__ import main; from export.source import find_checkpoint; "
FIND += "print(find_checkpoint(sys.argv[1])) if len(sys.argv) == 2 else sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The folder of a hub's models: org/new with safetensors and pickled weights, org/old with pickled ones alone."""
    for name, weights in (("new", ("model.safetensors", "pytorch_model.bin")), ("old", ("pytorch_model.bin",))):
        folder = tmp_path / "hub" / "org" / name
        folder.mkdir(parents=True)
        for file in ("config.json", "tokenizer.json", "vocab.txt", "README.md", "model.onnx", "tf_model.h5", *weights):
            (folder / file).write_text("{}" if file.endswith(".json") else f"{name} {file}")
    return tmp_path / "hub"


def find(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Find a checkpoint, or with more arguments export it; return exit code, output and the lines on stderr."""
    own = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}
    own["PYTHONPATH"] = str(ROOT)
    done = run_to_end(sys.executable, "-c", FIND, *arguments, cwd=tmp_path, **{**own, **variables})
    return done.returncode, done.stdout.strip(), done.stderr


def test_a_model_of_the_hub_is_downloaded_without_what_is_not_needed(tmp_path: Path, models: Path) -> None:
    """Config, tokenizer and safetensors come, other weights and files do not; the second time nothing is fetched."""
    with hub_of(models) as hub:
        code, folder, said = find(tmp_path, "org/new", HF_ENDPOINT=hub.address)
        assert code == 0, said
        assert f"note: no folder org/new here; reading the model org/new of {hub.address}" in said
        assert Path(folder).name == COMMIT
        files = {file.name for file in Path(folder).iterdir()}
        assert files == {"config.json", "tokenizer.json", "vocab.txt", "model.safetensors"}
        assert (Path(folder) / "model.safetensors").read_text() == "new model.safetensors"
        hub.asked.clear()
        assert find(tmp_path, "org/new", HF_ENDPOINT=hub.address)[:2] == (0, folder)
        assert not [path for path in hub.asked if path.startswith("GET") and "/resolve/" in path]
    assert find(tmp_path, "org/new", HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="1")[:2] == (0, folder)


def test_pickled_weights_come_where_the_model_has_no_others(tmp_path: Path, models: Path) -> None:
    """A model without safetensors comes with its pickled weights."""
    with hub_of(models) as hub:
        _, folder, said = find(tmp_path, "org/old", HF_ENDPOINT=hub.address)
    assert {"config.json", "pytorch_model.bin"} <= {file.name for file in Path(folder).iterdir()}, said


def test_a_private_model_comes_with_the_token(tmp_path: Path, models: Path) -> None:
    """HF_TOKEN opens a private model; without it the one line says that a token may be missing."""
    with hub_of(models, token="hf_secret") as hub:
        code, _, said = find(tmp_path, "org/new", "bundle", HF_ENDPOINT=hub.address)
        assert (code, said.splitlines()[-1]) == (
            2,
            "export: checkpoint org/new: no such folder here, and no public model of that name on "
            f"{hub.address} (for a private one: HF_TOKEN)",
        )
        assert find(tmp_path, "org/new", HF_ENDPOINT=hub.address, HF_TOKEN="hf_secret")[0] == 0


@pytest.mark.parametrize(
    ("variables", "why"),
    [({}, "the hub http://127.0.0.1:9 cannot be reached"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set")],
    ids=["unreachable", "offline"],
)
def test_without_the_hub_one_line_says_so(tmp_path: Path, variables: dict[str, str], why: str) -> None:
    """Without a hub the export ends with one line, which names the model, the hub and the reason."""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", **variables}
    code, _, said = find(tmp_path, "org/new", "bundle", **nowhere)
    assert code == 2
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(
        "export: checkpoint org/new: no such folder here or in the hub's cache, and "
    )
    assert said.splitlines()[-1].endswith(why)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("checkpoints/title", "; checkpoints has titles"),
        ("title", "; a model of the hub goes by ORG/NAME"),
        ("https://huggingface.co/org/name", "; a model of the hub goes by ORG/NAME"),
        ("/title", ""),
        ("title.bin", ""),
        ("org/name/more", ""),
        ("org/weights.bin", ""),
    ],
)
def test_a_mistyped_path_is_not_looked_for_on_the_hub(tmp_path: Path, name: str, hint: str) -> None:
    """A path beside an existing folder, or of another form than ORG/NAME, is refused without the hub."""
    (tmp_path / "checkpoints" / "titles").mkdir(parents=True)
    (tmp_path / "checkpoints" / "titles" / "config.json").write_text("{}")
    code, _, said = find(tmp_path, name, "bundle", HF_ENDPOINT="http://127.0.0.1:9")
    assert (code, said.splitlines()) == (2, [f"export: checkpoint {name}: does not exist{hint}"])
