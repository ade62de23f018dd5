"""Files of a bundle that change between check and use, and files that no sound bundle has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inferer import Bundle, BundleError, ModelInferer, model, read_bundle
from inferer.bundle import reader
from inferer.bundle.files import sha256_of, streamed
from tests.support import tiny


def rename_over(path: Path, content: bytes) -> None:
    """Put another file in the place of `path`, as a deployment does."""
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def rewrite(path: Path, content: bytes) -> None:
    """Write over the bytes of `path`, as a careless copy does."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


CHANGES = pytest.mark.parametrize("change", [rename_over, rewrite])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle to change."""
    return tiny.write_bundle(tmp_path / "bundle")


@CHANGES
@pytest.mark.parametrize("name", ["model_quantized.onnx", "tokenizer.json"])
@pytest.mark.parametrize("exact", [False, True])
def test_a_file_that_changes_after_the_check_of_its_hash_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Path, bytes], None], exact: bool
) -> None:
    """A sound file that takes the place of the checked one is refused by name, also where it would predict well."""
    words = tiny.tokenizer()
    words.add_tokens(["plain-", "odd-"])
    swapped = {
        "model_quantized.onnx": tiny.model(table=tiny.TABLE[:, ::-1].copy()).SerializeToString(),
        "tokenizer.json": words.to_str().encode(),
    }

    def read(path: Path) -> Bundle:
        bundle = read_bundle(path)
        change(path / name, swapped[name])
        return bundle

    monkeypatch.setattr(model, "read_bundle", read)
    monkeypatch.setattr("inferer.session.int8_may_saturate", lambda: exact)
    with pytest.raises(BundleError, match=f"{name} is damaged: its SHA-256 is"):
        ModelInferer(folder, golden_check="off")


@CHANGES
def test_a_config_that_changes_after_the_check_of_its_hash_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, bytes], None]
) -> None:
    """The labels come from the bytes that were hashed."""
    labels = {**json.loads((folder / "config.json").read_text()), "id2label": {"0": "x", "1": "y", "2": "z"}}
    check = reader._check_files

    def check_then_change(*arguments: object) -> None:
        check(*arguments)  # type: ignore[arg-type]
        change(folder / "config.json", json.dumps(labels).encode())

    monkeypatch.setattr(reader, "_check_files", check_then_change)
    with pytest.raises(BundleError, match=r"config\.json is damaged"):
        read_bundle(folder)


@CHANGES
def test_a_file_may_change_while_it_is_loaded(tmp_path: Path, change: Callable[[Path, bytes], None]) -> None:
    """A file replaced while it is read is loaded as it was; one that is rewritten is refused."""
    path, old, new = tmp_path / "model", os.urandom(2**21), os.urandom(2**21)
    path.write_bytes(old)
    expected, read = sha256_of(path), b""

    def load() -> None:
        nonlocal read
        with streamed(path, expected) as name, Path(name if isinstance(name, str) else "").open("rb") as pipe:
            read = pipe.read(2**16)
            change(path, new)
            read += pipe.read()

    if change is rename_over:
        load()
        assert read == old
    else:
        with pytest.raises(BundleError, match="model is damaged"):
            load()


def test_a_whole_file_passes_through_the_pipe(tmp_path: Path) -> None:
    """A file arrives whole, and no open file is left, whether its reader reads all of it or fails before."""
    path = tmp_path / "model"
    path.write_bytes(os.urandom(2**21))
    expected, before = sha256_of(path), len(list(Path("/dev/fd").iterdir()))
    with streamed(path, expected) as name, Path(str(name)).open("rb") as pipe:
        assert pipe.read() == path.read_bytes()
    with pytest.raises(ZeroDivisionError), streamed(path, expected) as name:
        _ = 1 / 0
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_where_pipes_have_no_names_the_checked_bytes_are_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc/self/fd and /dev/fd the model comes from memory, with the same predictions."""
    expected = ModelInferer(folder).predict("good bad good")
    monkeypatch.setattr("inferer.bundle.files._DESCRIPTORS", ())
    assert ModelInferer(folder).predict("good bad good") == expected


NAMES = pytest.mark.parametrize("name", ["inferer.json", "config.json", "tokenizer.json", "model_quantized.onnx"])


@NAMES
def test_a_named_pipe_in_place_of_a_file_is_refused(folder: Path, name: str) -> None:
    """Nobody writes into the pipe: a plain open would wait for ever."""
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match=f"{name} is not a regular file"):
        read_bundle(folder)


def test_a_named_pipe_in_place_of_the_manifest_makes_no_bundle(folder: Path) -> None:
    """ModelInferer and the service look for a manifest first, and do not wait at a pipe either."""
    (folder / "inferer.json").unlink()
    os.mkfifo(folder / "inferer.json")
    with pytest.raises(BundleError, match="is neither a bundle"):
        ModelInferer(folder)


@NAMES
def test_a_folder_in_place_of_a_file_is_refused(folder: Path, name: str) -> None:
    """A folder with the name of a file ends in a BundleError."""
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(BundleError, match=f"{name} (cannot be read: Is a directory|is not a regular file)"):
        read_bundle(folder)


@NAMES
def test_files_may_be_symbolic_links(folder: Path, tmp_path: Path, name: str) -> None:
    """A store of files by content, with links from the bundle's folder, is read; a link to a device is not."""
    (folder / name).rename(tmp_path / "blob")
    (folder / name).symlink_to(tmp_path / "blob")
    assert ModelInferer(folder).predict("good").label == "pos"
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=f"{name} is not a regular file"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("target", "problem"),
    [("tokenizer.json", "cannot be read: Too many levels of symbolic links"), ("nothing", "is missing")],
)
def test_a_link_that_leads_nowhere_is_refused(folder: Path, target: str, problem: str) -> None:
    """A link to itself or to nothing ends in a BundleError."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(target)
    with pytest.raises(BundleError, match=f"tokenizer.json {problem}"):
        read_bundle(folder)


@NAMES
def test_a_file_of_a_size_that_cannot_be_meant_is_refused_unread(folder: Path, name: str) -> None:
    """A sparse file of a terabyte takes no disk, and would take hours to hash or all memory to parse."""
    os.truncate(folder / name, 2**40)
    with pytest.raises(BundleError, match=f"{name} has 1099511627776 bytes, expected at most"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_json_that_would_fill_the_memory_is_refused_unread(folder: Path, name: str) -> None:
    """The hash of a sparse file of 128 MB is right, and parsed it could take gigabytes."""
    manifest = json.loads((folder / "inferer.json").read_text())
    os.truncate(folder / name, 2**27)
    tiny.seal(folder, manifest)
    with pytest.raises(BundleError, match=f"{name} has {2**27} bytes, expected at most {2**26}"):
        ModelInferer(folder)


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "9" * 5000, '"' + "x" * 10_000])
@pytest.mark.parametrize("name", ["inferer.json", "config.json", "tokenizer.json"])
def test_json_that_cannot_be_meant_is_refused(folder: Path, name: str, value: str) -> None:
    """Deep nesting, an integer of 5,000 digits and a text without end: a BundleError of one short line."""
    (folder / name).write_text(f'{{"a": {value}}}')
    if name != "inferer.json":
        tiny.seal(folder, json.loads((folder / "inferer.json").read_text()))
    with pytest.raises(BundleError, match=name) as raised:
        ModelInferer(folder)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("depth", [50, 200, 350, 500, 950])
def test_nesting_of_any_depth_is_one_error(folder: Path, depth: int) -> None:
    """A manifest that can just be parsed, but perhaps not hashed, raises no other error."""
    (folder / "inferer.json").write_text('{"format_version": 3, "a": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(BundleError, match=r"inferer\.json"):
        read_bundle(folder)


def test_a_number_that_no_model_has_is_refused(tmp_path: Path) -> None:
    """A number of tokens or of ids beyond 32 bits is refused by its field."""
    folder = tiny.write_bundle(tmp_path / "tokens", max_positions=10**400, max_length=10**400)
    with pytest.raises(BundleError, match=r"max_positions is 1000.*, expected 3 to 2147483647"):
        ModelInferer(folder)
    folder = tiny.write_bundle(tmp_path / "ids")
    manifest, config = (json.loads((folder / name).read_text()) for name in ("inferer.json", "config.json"))
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 10**400}))
    tiny.seal(folder, manifest)
    with pytest.raises(BundleError, match=r"vocab_size is 1000.*, expected the number of token ids, 1 to 2147483647"):
        ModelInferer(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "\ud800", "a\nb"])
def test_a_manifest_names_files_of_its_own_folder_only(folder: Path, name: str) -> None:
    """A path that leads out of the folder, and a name that no file can have, end in a BundleError."""
    manifest = json.loads((folder / "inferer.json").read_text())
    manifest["files"][name] = "0" * 64
    (folder / "inferer.json").write_text(json.dumps(reader.sealed(manifest)))
    with pytest.raises(BundleError, match="which is not a plain file name"):
        read_bundle(folder)
