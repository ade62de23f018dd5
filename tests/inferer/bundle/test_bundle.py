"""Reading a bundle: a sound one is read, and each fault of another is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from inferer import BundleError, ModelInferer, read_bundle
from inferer.bundle.manifest import MULTI_LABEL, Platt
from inferer.bundle.reader import FP32, sealed
from tests.support import tiny

GOOD = tiny.GOLDEN[0]
# As it is in a bundle of scheme fp32.
FP32_GOLDEN = [{**entry, "int8": None} for entry in tiny.GOLDEN]


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit(folder: Path, **changes: Any) -> None:
    """Change fields of the manifest (None removes one) and renew its hash."""
    manifest = json.loads((folder / "inferer.json").read_text())
    manifest.update(changes)
    kept = sealed({k: v for k, v in manifest.items() if v is not None})
    (folder / "inferer.json").write_text(json.dumps(kept))


def test_a_good_bundle_is_read_as_it_was_written(tiny_bundle: Path) -> None:
    """The facts of a good bundle are read as they were written."""
    bundle = read_bundle(tiny_bundle)
    assert bundle.labels == tiny.LABELS
    assert (bundle.max_length, bundle.max_positions, bundle.truncation) == (8, 16, "head")
    assert bundle.thresholds is None
    assert bundle.model_path(quantize=True).name == "model_quantized.onnx"


def test_multi_label_thresholds_are_read_by_label(multi_bundle: Path) -> None:
    """Each label of a multi-label bundle has the threshold that the manifest gives it."""
    assert read_bundle(multi_bundle).thresholds == {"pos": 0.5, "neg": 0.9, "other": 0.5}


@pytest.mark.parametrize("name", ["model_quantized.onnx", "tokenizer.json", "config.json"])
def test_one_changed_byte_is_found_and_named(copy: Path, name: str) -> None:
    """A bundle with one byte changed in a file is refused, and the error names the file."""
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        read_bundle(copy)


@pytest.mark.parametrize("name", ["model_quantized.onnx", "tokenizer.json", "config.json", "inferer.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    """A bundle with a file missing is refused, and the error names the file."""
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        read_bundle(copy)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing path, and the path of a file, end in a BundleError that names the fault."""
    with pytest.raises(BundleError, match="nowhere: does not exist"):
        read_bundle(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="is not a folder"):
        read_bundle(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format_version": 1}, "format_version 1, this version reads 3; export it again"),
        ({"format_version": 4}, "format_version 4, this version reads 3"),
        ({"format_version": None}, "format_version None"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking', expected one of single_label"),
        ({"problem_type": MULTI_LABEL}, "problem_type is 'single_label_classification', expected 'multi_label"),
        ({"max_length": 17}, "max_length is 17, expected 3 to max_positions"),
        ({"max_length": "8"}, "max_length is '8', expected int"),
        ({"max_length": True}, "max_length is True, expected int"),
        ({"truncation": "middle"}, "truncation is 'middle', expected one of head, tail, head_tail, windows, error"),
        ({"temperature": float("inf")}, "temperature is inf, expected a number above 0, at most 1000"),
        ({"temperature": 10**400}, "expected a number above 0, at most 1000"),
        ({"temperature": 0}, "temperature is 0, expected a number above 0"),
        ({"windows": None}, "windows is None, expected dict"),
        ({"windows": {"overlap": 2, "pooling": "sum"}}, "pooling is 'sum', expected one of mean, max"),
        ({"windows": {"overlap": 8, "pooling": "mean"}}, "windows.overlap is 8, expected 0 to 7 tokens"),
        ({"windows": {"overlap": -1, "pooling": "mean"}}, "windows.overlap is -1, expected 0 to 7 tokens"),
        ({"windows": {"pooling": "mean"}}, "overlap is None, expected int"),
        ({"abstain_threshold": 1.5}, "abstain_threshold is 1.5, expected a number 0 to 1"),
        ({"abstain_threshold": True}, "abstain_threshold is True, expected a number 0 to 1"),
        ({"abstain_threshold": float("nan")}, "abstain_threshold is nan, expected a number 0 to 1"),
        ({"platt": {"pos": {"scale": 1, "bias": 0}}}, "platt is .*, expected null for single_label"),
        ({"quantization": {"scheme": "int4"}}, "scheme is 'int4'"),
        ({"quantization": {"scheme": "fp32"}, "golden": FP32_GOLDEN}, "has no fp32 model"),
        ({"golden": None}, "golden is None, expected a list of at least one text"),
        ({"golden": []}, r"golden is \[\], expected a list of at least one text"),
        ({"golden": ["good"]}, r"golden\[0\] is 'good', expected an object of text, fp32 and int8"),
        ({"golden": [{"text": "good", "fp32": [2, 0, 0]}]}, r"golden\[0\] is .*, expected an object of text, fp32"),
        ({"golden": [*tiny.GOLDEN, {**GOOD, "text": ""}]}, r"golden\[4\].text is '', expected a text"),
        ({"golden": [{**GOOD, "text": 7}]}, r"golden\[0\].text is 7, expected a text"),
        ({"golden": [{**GOOD, "fp32": [2, 0]}]}, r"golden\[0\].fp32 is \[2, 0\], expected a list of 3 logits"),
        ({"golden": [{**GOOD, "int8": None}]}, r"golden\[0\].int8 is None, expected a list of 3 logits"),
        ({"golden": [{**GOOD, "int8": [2, 0, "0"]}]}, r"golden\[0\].int8 has '0', expected finite numbers"),
        ({"golden": [{**GOOD, "int8": [2, 0, True]}]}, r"golden\[0\].int8 has True, expected finite numbers"),
        ({"golden": [{**GOOD, "fp32": [2, 0, float("nan")]}]}, r"golden\[0\].fp32 has nan, expected finite numbers"),
        ({"golden": [{**GOOD, "fp32": [2, 0, 10**400]}]}, r"golden\[0\].fp32 has 1000.*, expected finite numbers"),
        ({"golden": tiny.GOLDEN, "quantization": {"scheme": FP32}}, r"golden\[0\].int8 is .*, expected null for"),
        ({"files": {}}, "does not list config.json"),
        ({"files": {"config.json": "0", "tokenizer.json": "0", "../x": "0"}}, "is damaged"),
    ],
)
def test_a_wrong_manifest_is_refused_by_field(copy: Path, changes: dict[str, Any], problem: str) -> None:
    """A wrong manifest is refused, and the error names the field, its value and the expected value."""
    edit(copy, **changes)
    with pytest.raises(BundleError, match=problem):
        read_bundle(copy)


def test_a_file_outside_the_folder_is_refused(copy: Path) -> None:
    """A manifest that points at a file outside its folder is refused."""
    files = json.loads((copy / "inferer.json").read_text())["files"]
    edit(copy, files={"../outside": "0", **files})
    with pytest.raises(BundleError, match="'../outside', which is not a plain file name"):
        read_bundle(copy)


@pytest.mark.parametrize(
    ("id2label", "problem"),
    [
        (None, "id2label is None"),
        ({}, "id2label is {}"),
        ({"0": "a", "2": "b"}, "expected 0 to 1"),
        ({"0": "a", "1": "a"}, "names a label twice"),
        ({"0": "a", "1": 7}, "has the keys"),
    ],
)
def test_labels_must_be_whole_and_different(copy: Path, id2label: object, problem: str) -> None:
    """An id2label that is missing or empty, has a gap, a duplicate or a value other than a name is refused."""
    manifest = json.loads((copy / "inferer.json").read_text())
    config = {"id2label": id2label, "problem_type": manifest["problem_type"]}
    (copy / "config.json").write_text(json.dumps(config))
    tiny.seal(copy, manifest)
    with pytest.raises(BundleError, match=problem):
        read_bundle(copy)


@pytest.mark.parametrize(
    ("thresholds", "problem"),
    [
        (None, "thresholds is None, expected a value for each of pos, neg, other"),
        (0.5, "thresholds is 0.5"),
        (["pos"], r"thresholds is \['pos'\]"),
        ({"pos": 0.5, "neg": 0.5}, "for each of pos, neg, other"),
        ({"pos": 0.5, "neg": 0.5, "other": 0.5, "nobody": 0.5}, "for each of pos, neg, other"),
        ({"pos": 0.5, "neg": 1.5, "other": 0.5}, r"thresholds\['neg'\] is 1.5, expected a number 0 to 1"),
        ({"pos": True, "neg": 0.5, "other": 0.5}, r"thresholds\['pos'\] is True, expected a number 0 to 1"),
    ],
)
def test_wrong_thresholds_are_refused(tmp_path: Path, thresholds: object, problem: str) -> None:
    """A multi-label manifest must have exactly one number from 0 to 1 for each label."""
    folder = tiny.write_bundle(tmp_path / "b", problem_type=MULTI_LABEL, thresholds=thresholds)
    with pytest.raises(BundleError, match=problem):
        read_bundle(folder)


@pytest.mark.parametrize(
    "wrong",
    [0.5, {"scale": 1}, {"scale": 0, "bias": 0}, {"scale": -1, "bias": 0}, {"scale": 1, "bias": "0"},
     {"scale": 1, "bias": float("nan")}, {"scale": True, "bias": 0}, {"scale": 1, "bias": 10**400},
     {"scale": float("inf"), "bias": 0}, {"scale": 1, "bias": 0, "more": 0}],
)  # fmt: skip
def test_a_wrong_platt_scaling_is_refused_by_label(tmp_path: Path, wrong: object) -> None:
    """Each label has a scale above 0 and a finite bias, and no other key."""
    platt = {"pos": {"scale": 2, "bias": -1}, "neg": wrong, "other": {"scale": 1, "bias": 0}}
    folder = tiny.write_bundle(tmp_path / "b", problem_type=MULTI_LABEL, platt=platt)
    with pytest.raises(BundleError, match=r"platt\['neg'\] is .*, expected a scale above 0, at most 1000, and a bias"):
        read_bundle(folder)


def test_platt_scaling_must_name_every_label(tmp_path: Path) -> None:
    """Platt scaling of other labels than the model's is refused; of all labels it is read in the logits' order."""
    one = {"scale": 2, "bias": -1}
    for given in ({"pos": one}, {"pos": one, "neg": one, "nobody": one}, [one]):
        folder = tiny.write_bundle(tmp_path / "b", problem_type=MULTI_LABEL, platt=given)
        with pytest.raises(BundleError, match="platt is .* for each of pos, neg, other"):
            read_bundle(folder)
    every = {"other": {"scale": 3, "bias": 0}, "neg": one, "pos": one}
    platt = read_bundle(tiny.write_bundle(tmp_path / "b", problem_type=MULTI_LABEL, platt=every)).platt
    assert platt == {"pos": Platt(2, -1), "neg": Platt(2, -1), "other": Platt(3, 0)}
    assert list(platt) == ["pos", "neg", "other"], "in the order of the logits"


def test_a_multi_label_bundle_does_not_abstain(tmp_path: Path) -> None:
    """An abstain threshold in a multi-label manifest is refused: each label has a threshold of its own there."""
    folder = tiny.write_bundle(tmp_path / "b", problem_type=MULTI_LABEL, abstain_threshold=0.5)
    with pytest.raises(BundleError, match="abstain_threshold is 0.5, expected null for multi_label_classification"):
        read_bundle(folder)


def test_thresholds_of_a_single_label_bundle_are_refused(copy: Path) -> None:
    """Thresholds in a single-label manifest are refused, not ignored."""
    edit(copy, thresholds={"pos": 0.5})
    with pytest.raises(BundleError, match="expected null for single_label_classification"):
        read_bundle(copy)


def test_a_folder_that_may_not_be_entered_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OS error while looking for a bundle, or while reading its files, is a BundleError."""

    def denied(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("inferer.bundle.files.os.open", denied)
    with pytest.raises(BundleError, match="cannot be read: Permission denied"):
        read_bundle(copy)
    monkeypatch.setattr("inferer.checkpoint.is_bundle", denied)
    with pytest.raises(BundleError, match="cannot be read: Permission denied"):
        ModelInferer(copy)


def test_a_manifest_that_is_not_json_is_refused(copy: Path) -> None:
    """A manifest that is cut short, nested too deeply or not an object ends in a BundleError."""
    (copy / "inferer.json").write_text('{"format_version": 1')
    with pytest.raises(BundleError, match="inferer.json cannot be read"):
        read_bundle(copy)
    (copy / "inferer.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match="inferer.json cannot be read"):
        read_bundle(copy)
    (copy / "inferer.json").write_text("[]")
    with pytest.raises(BundleError, match="holds a list, expected a JSON object"):
        read_bundle(copy)


def test_a_model_with_other_inputs_is_refused(tmp_path: Path) -> None:
    """An ONNX file whose inputs are not a text's is refused, and the error names its inputs."""
    wrong = tiny.model()
    wrong.graph.input[0].name = "pixels"
    wrong.graph.node[0].input[1] = "pixels"
    folder = tiny.write_bundle(tmp_path / "b", onnx_model=wrong)
    with pytest.raises(BundleError, match=r"takes the inputs \['attention_mask', 'pixels'\]"):
        ModelInferer(folder)


def test_a_model_with_other_outputs_is_refused(tmp_path: Path) -> None:
    """An ONNX file without logits is refused, and the error names its outputs."""
    wrong = tiny.model()
    wrong.graph.output[0].name = wrong.graph.node[-1].output[0] = "embedding"
    folder = tiny.write_bundle(tmp_path / "b", onnx_model=wrong)
    with pytest.raises(BundleError, match=r"has the outputs \['embedding'\], expected logits"):
        ModelInferer(folder)


def test_more_logits_than_labels_are_refused(tmp_path: Path) -> None:
    """A model with 4 logits under 3 labels is refused, and the error gives both numbers."""
    wide = np.zeros((len(tiny.WORDS), 4), np.float32)
    folder = tiny.write_bundle(tmp_path / "b", onnx_model=tiny.model(table=wide))
    with pytest.raises(BundleError, match=r"gives 4 logits per text, config\.json names 3 labels"):
        ModelInferer(folder)


def test_a_tokenizer_with_more_words_than_the_model_is_refused(tmp_path: Path) -> None:
    """A tokenizer with ids beyond the model's table is found when the bundle is loaded."""
    short = tiny.model(table=tiny.TABLE[:3])
    folder = tiny.write_bundle(tmp_path / "b", onnx_model=short)
    with pytest.raises(BundleError, match="the model run failed"):
        ModelInferer(folder)


def test_fp32_is_run_only_where_it_is_kept(copy: Path) -> None:
    """quantize=False runs the fp32 model of a bundle that keeps it; otherwise the error names the export option."""
    with pytest.raises(BundleError, match="export it again with --keep-fp32"):
        ModelInferer(copy, quantize=False)
    manifest = json.loads((copy / "inferer.json").read_text())
    doubled = tiny.model(table=2 * tiny.TABLE)
    (copy / "model.onnx").write_bytes(doubled.SerializeToString())
    for entry in manifest["golden"]:
        entry["fp32"] = [2 * logit for logit in entry["fp32"]]
    tiny.seal(copy, manifest)
    assert ModelInferer(copy, quantize=False).logits("good").tolist() == [4.0, 0.0, 0.0]
    assert ModelInferer(copy).logits("good").tolist() == [2.0, 0.0, 0.0]


def test_an_fp32_bundle_is_served_as_it_is(tmp_path: Path) -> None:
    """A bundle with an fp32 model alone runs it."""
    folder = tiny.write_bundle(tmp_path / "b")
    (folder / "model_quantized.onnx").rename(folder / "model.onnx")
    manifest = json.loads((folder / "inferer.json").read_text())
    tiny.seal(folder, {**manifest, "quantization": {"scheme": "fp32", "quantized_matmuls": 0}, "golden": FP32_GOLDEN})
    assert ModelInferer(folder).predict("good").label == "pos"
    assert ModelInferer(folder).scheme == "fp32"


def _elsewhere(tensor: onnx.TensorProto, location: str) -> None:
    """Let `tensor` take its bytes from the file `location`."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "96")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _in_an_initializer(model: onnx.ModelProto, location: str) -> None:
    _elsewhere(model.graph.initializer[0], location)


def _in_a_constant(model: onnx.ModelProto, location: str) -> None:
    tensor = numpy_helper.from_array(tiny.TABLE)
    _elsewhere(tensor, location)
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["unused"], value=tensor))


def _in_a_subgraph(model: onnx.ModelProto, location: str) -> None:
    inner = onnx.GraphProto(name="inner")
    inner.initializer.append(numpy_helper.from_array(tiny.TABLE, "weights"))
    _elsewhere(inner.initializer[0], location)
    model.graph.node.append(onnx.helper.make_node("If", ["mask"], ["unused"], then_branch=inner, else_branch=inner))


def _in_a_sparse_weight(model: onnx.ModelProto, location: str) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(tiny.TABLE, "weights"))
    _elsewhere(sparse.values, location)


def _in_a_function(model: onnx.ModelProto, location: str) -> None:
    holder = tiny.model()
    _in_a_constant(holder, location)
    model.functions.add(name="f", domain="d").node.append(holder.graph.node[-1])


@pytest.mark.parametrize(
    "place", [_in_an_initializer, _in_a_constant, _in_a_subgraph, _in_a_sparse_weight, _in_a_function]
)
@pytest.mark.parametrize("location", ["../secret", "secret", "/etc/passwd"])
def test_weights_in_another_file_are_refused_by_its_name(
    tmp_path: Path, place: Callable[[onnx.ModelProto, str], None], location: str
) -> None:
    """A model that takes a weight from another file, wherever in the graph and in the disk, is refused by its name."""
    for folder in (tmp_path, tmp_path / "b"):
        folder.mkdir(exist_ok=True)
        (folder / "secret").write_bytes(bytes(96))
    folder = tiny.write_bundle(tmp_path / "b")
    model = tiny.model()
    place(model, location)
    (folder / "model_quantized.onnx").write_bytes(model.SerializeToString())
    tiny.seal(folder, json.loads((folder / "inferer.json").read_text()))
    with pytest.raises(BundleError, match=f"model_quantized.onnx takes weights from the file '{location}'"):
        read_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x3a\xff\x01", b"\xff" * 20, b"\x0b", b"\x3a\x02\x0a\xff"])
def test_a_file_that_is_not_an_onnx_model_is_refused(tmp_path: Path, content: bytes) -> None:
    """A model file that is empty, cut short or malformed protobuf is refused by name, though its hash is right."""
    folder = tiny.write_bundle(tmp_path / "b")
    (folder / "model_quantized.onnx").write_bytes(content)
    tiny.seal(folder, json.loads((folder / "inferer.json").read_text()))
    with pytest.raises(BundleError, match=r"model_quantized\.onnx cannot be loaded"):
        ModelInferer(folder)


def test_one_changed_byte_in_the_manifest_is_found(copy: Path) -> None:
    """A manifest with one byte changed is refused, unless its values stay the same."""
    content = (copy / "inferer.json").read_bytes()
    before = json.loads(content)
    accepted = []
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        (copy / "inferer.json").write_bytes(changed)
        try:
            read_bundle(copy)
        except BundleError:
            continue
        accepted.append(place)
        assert json.loads(changed) == before, f"byte {place}: {changed[place - 20 : place + 20]!r}"
    assert len(accepted) < len(content) / 100
