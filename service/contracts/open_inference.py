"""Inference requests of the Open Inference Protocol (KServe v2, Triton, MLServer), as JSON without binary tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from inferer.errors import shown
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import Text, documented, limited
from service.errors import ServiceError, wrong_field
from service.json_body import check_one_of
from service.state import State, current_state

VERSION = "1"

# name -> datatype, whether the tensor has a value per label, and one text's values.
_Values = Callable[[Prediction, Sequence[str]], Sequence[Any]]
OUTPUTS: Mapping[str, tuple[str, bool, _Values]] = {
    "label": ("BYTES", False, lambda prediction, _: [prediction.label]),
    "score": ("FP32", False, lambda prediction, _: [prediction.score]),
    "scores": ("FP32", True, lambda prediction, labels: [prediction.scores[label] for label in labels]),
    "selected": ("BOOL", True, lambda prediction, labels: [label in prediction.labels for label in labels]),
    "num_tokens": ("INT64", False, lambda prediction, _: [prediction.num_tokens]),
    "truncated": ("BOOL", False, lambda prediction, _: [prediction.truncated]),
}
_DEFAULT_OUTPUTS = ("label", "score", "scores")
_SHAPE = [{"type": "integer"}, {"const": 1}]

_OneText = Annotated[list[Text], Meta(min_length=1, max_length=1)]


class RequestedOutput(msgspec.Struct):
    """The name of an output to return."""

    name: Annotated[str, documented(enum=[*OUTPUTS])]
    parameters: Annotated[dict[str, Any] | None, documented(properties={"classification": False})] = None


class InferParameters(msgspec.Struct):
    """Parameters of the input. Unknown ones are ignored."""

    content_type: Annotated[str, documented(enum=["str"])] | None = None


class InferInput(msgspec.Struct):
    """The texts: BYTES of shape [n] or [n, 1], flat or nested, under any name."""

    name: str
    shape: Annotated[
        list[Annotated[int, Meta(ge=1)]],
        Meta(min_length=1, max_length=2, description="[n] or [n, 1]", extra_json_schema={"prefixItems": _SHAPE}),
    ]
    datatype: Annotated[str, documented(enum=["BYTES"])]
    data: Annotated[list[Text | _OneText], limited("texts", minItems=1)]
    parameters: InferParameters | None = None


class InferRequest(msgspec.Struct):
    """One input, or the two of pairs, and the names of the outputs; by default label, score and scores.

    Unknown parameters are ignored.
    """

    inputs: Annotated[list[InferInput], limited("infer_inputs", "the texts, or the first and the second texts")]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None


class InferOutput(msgspec.Struct):
    """One output, row-major."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | float | int | bool]


class InferReply(msgspec.Struct, kw_only=True):
    """The requested outputs."""

    model_name: str
    model_version: str
    id: str | UnsetType = UNSET
    outputs: list[InferOutput]


def check_version(version: str) -> None:
    """Raise ServiceError (NotFound) for any version but the only one."""
    if version != VERSION:
        raise ServiceError("NotFound", f"no version {shown(version)} of the model here; there is {VERSION!r}")


def _read(body: InferRequest) -> PredictCall:
    wanted = 2 if current_state().inferer.text_pair else 1
    if len(body.inputs) != wanted:
        expected = "two, the first and the second texts of pairs" if wanted == 2 else "one, the texts"
        raise wrong_field("inputs", f"has {len(body.inputs)} inputs, expected {expected}")
    for index, output in enumerate(body.outputs or ()):
        check_one_of(output.name, f"outputs[{index}].name", tuple(OUTPUTS))
        if "classification" in (output.parameters or ()):
            field = f"outputs[{index}].parameters.classification"
            raise wrong_field(field, "is not supported; ask for the output 'label'")
    (texts, fields), *second = (_texts(given, f"inputs[{i}]") for i, given in enumerate(body.inputs))
    if not second:
        return PredictCall(texts, fields, texts_field="inputs[0].data")
    others, other_fields = second[0]
    if len(others) != len(texts):
        raise wrong_field("inputs[1].data", f"has {len(others)} texts, expected {len(texts)}, as inputs[0]")
    pairs, names = list(zip(texts, others, strict=True)), list(zip(fields, other_fields, strict=True))
    return PredictCall(pairs, names, texts_field="inputs[0].data")


def _texts(given: InferInput, field: str) -> tuple[list[str], list[str]]:
    """Return the texts of an input, and the name of each; raises ServiceError (Validation)."""
    check_one_of(given.datatype, f"{field}.datatype", ("BYTES",))
    if given.parameters is not None and given.parameters.content_type is not None:
        check_one_of(given.parameters.content_type, f"{field}.parameters.content_type", ("str",))
    texts = [value if isinstance(value, str) else value[0] for value in given.data]
    fields = [f"{field}.data[{row}]{'' if isinstance(value, str) else '[0]'}" for row, value in enumerate(given.data)]
    if given.shape[1:] not in ([], [1]) or prod(given.shape) != len(texts):
        expected = f"[{len(texts)}] or [{len(texts)}, 1], the number of texts"
        raise wrong_field(f"{field}.shape", f"{given.shape} is not allowed; expected {expected}")
    return texts, fields


def _render(body: InferRequest, predictions: Sequence[Prediction], state: State) -> InferReply:
    labels = state.inferer.labels
    outputs = []
    for name in dict.fromkeys(output.name for output in body.outputs or ()) or _DEFAULT_OUTPUTS:
        datatype, per_label, values = OUTPUTS[name]
        shape = [len(predictions), len(labels)] if per_label else [len(predictions)]
        data = [value for prediction in predictions for value in values(prediction, labels)]
        outputs.append(InferOutput(name, datatype, shape, data))
    id_ = UNSET if body.id is None else body.id
    return InferReply(model_name=state.settings.name, model_version=VERSION, id=id_, outputs=outputs)


def _example(data: list[Any], shape: list[int], **more: object) -> dict[str, object]:
    return {"inputs": [{"name": "text", "shape": shape, "datatype": "BYTES", "data": data}], **more}


def _pair_example(first: list[str], second: list[str], **more: object) -> dict[str, object]:
    sides = {"text": first, "text_pair": second}
    inputs = [{"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data} for name, data in sides.items()]
    return {"inputs": inputs, **more}


CONTRACT = Contract(
    "Open Inference Protocol v2",
    InferRequest,
    InferReply,
    _read,
    _render,
    examples={
        "one text": _example(["I like you"], [1]),
        "two texts": _example(["I like you", "not for me"], [2], id="42"),
        "other outputs": _example([["I like you"]], [1, 1], outputs=[{"name": "selected"}, {"name": "truncated"}]),
    },
    wrong_examples={"a wrong shape": _example(["I like you"], [3])},
    pair_examples={
        "one pair": _pair_example(["I like you"], ["not for me"]),
        "two pairs": _pair_example(["I like you", "a"], ["not for me", "b"], id="42"),
        "other outputs": _pair_example(["a"], ["b"], outputs=[{"name": "selected"}, {"name": "truncated"}]),
    },
    wrong_pair_examples={"one input": _example(["I like you"], [1])},
)
