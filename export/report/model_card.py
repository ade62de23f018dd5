"""The model card: the bundle's README.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.checkpoint import Checkpoint
from export.checks.parity import Parity
from export.report.guard_table import card_section as guard_section
from export.report.score_table import card_section as score_section
from export.report.tables import cell, kept_layers
from inferer.bundle.manifest import MAX, MULTI_LABEL, REGRESSION, SIGMOID, SINGLE_LABEL
from inferer.bundle.reader import ERROR, HEAD, HEAD_TAIL, LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND, TAIL, WINDOWS

_KINDS = {
    SINGLE_LABEL: "single-label text classifier",
    MULTI_LABEL: "multi-label text classifier",
    REGRESSION: "regression model",
}
_OF_PAIRS = {
    LONGEST_FIRST: "it reads the beginnings: the longer text is cut first",
    ONLY_FIRST: "it reads the beginning of the first text and the whole second one",
    ONLY_SECOND: "it reads the whole first text and the beginning of the second one",
    TAIL: "it reads the ends: the longer text is cut first",
    HEAD_TAIL: "it reads the whole first text, and the beginning and the end of the second one",
    WINDOWS: "it reads the whole first text with each window of the second one",
    ERROR: "it reads none: the pair is refused",
}


def model_card(
    checkpoint: Checkpoint,
    quantization: Mapping[str, Any],
    parity: Parity,
    sizes: Mapping[str, int],
    facts: Mapping[str, Any],
) -> str:
    """Return the card as Markdown. sizes: bytes of each ONNX file in the bundle. facts: fields of the manifest."""
    count = len(quantization["kept_fp32"])
    kept = f", {kept_layers(count)}" if count else ""
    guard = facts["guard"]
    measured = "" if guard is None else guard_section(guard, checkpoint.problem_type) + "\n\n"
    labels = "\n".join(f"| {i} | {cell(label)} |" for i, label in enumerate(checkpoint.labels))
    files = "\n".join(f"| `{name}` | {size / 1e6:.1f} MB |" for name, size in sizes.items())
    kind = _KINDS[checkpoint.problem_type]
    call = '.predict("a text", "another")' if checkpoint.text_pair else '.predict("some text")'
    reads = " It reads pairs of texts." if checkpoint.text_pair else ""
    return f"""---
library_name: onnx
pipeline_tag: text-classification
---

# {checkpoint.source.resolve().stem}

A {kind} ({checkpoint.model_type}), exported from a PyTorch checkpoint for
onnxruntime.{reads} {_truncation(checkpoint.max_length, facts, pair=checkpoint.text_pair)}

| id | label |
| --- | --- |
{labels}

| file | size |
| --- | --- |
{files}

Scheme: {quantization["scheme"]}, {quantization["quantized_matmuls"]} int8 matrix products{kept}.

{_meaning(checkpoint, facts)}

{measured}{_changes(parity)}

Serve it with `inferer serve <this folder>`, or use it from Python:
`ModelInferer("<this folder>"){call}`. Hugging Face's
`ORTModelForSequenceClassification.from_pretrained("<this folder>", file_name="{next(iter(sizes))}")` loads it too.
"""


def _meaning(checkpoint: Checkpoint, facts: Mapping[str, Any]) -> str:
    if checkpoint.problem_type != REGRESSION:
        return score_section(facts)
    number = "the number that the model learned"
    if checkpoint.activation == SIGMOID:
        number = "the sigmoid of the logit: a higher one ranks higher, and 0.9 does not mean right nine times in ten"
    return f"## What a score means\n\nThe score is {number}."


def _truncation(max_length: int, facts: Mapping[str, Any], *, pair: bool) -> str:
    if pair:
        return f"Of a pair of more than {max_length} tokens, {_OF_PAIRS[facts['truncation']]}."
    longer = f"a text of more than {max_length} tokens"
    if facts["truncation"] == HEAD:
        return f"It reads the first {max_length} tokens of a text."
    if facts["truncation"] == TAIL:
        return f"It reads the last {max_length} tokens of a text."
    if facts["truncation"] == HEAD_TAIL:
        return f"Of {longer} it reads that many, the first quarter from its beginning and the rest from its end."
    if facts["truncation"] == ERROR:
        return f"It refuses {longer}."
    overlap, pooling = facts["windows"]["overlap"], facts["windows"]["pooling"]
    pooled = "each label's highest logit counts" if pooling == MAX else "their logits are averaged by length"
    return f"It reads {longer} in windows of that many, each sharing {overlap} with the one before; {pooled}."


def _changes(parity: Parity) -> str:
    if parity.int8_mean_change is None:
        int8 = "| int8 against fp32 | not in this bundle |"
    else:
        agreement, same = parity.int8_agreement, "| int8 against fp32, same best label |"
        int8 = "" if agreement is None else f"{same} {agreement:.1%} |\n"
        int8 += (
            f"| int8 against fp32, mean change of a score | {parity.int8_mean_change:.4f} |\n"
            f"| int8 against fp32, largest change of a score | {parity.int8_max_change:.4f} |\n"
            f"| int8 in a batch against alone, largest change of a score "
            f"| {parity.int8_batch_max_change:.4f} |"
        )
    return f"""## int8 against fp32 on built-in sentences

Measured at export on {parity.n} built-in sentences of several lengths: enough to find a broken export, too few to judge
the model on your texts.

| | |
| --- | --- |
| fp32 ONNX against PyTorch, largest difference of a logit | {parity.fp32_max_difference:.1e} |
{int8}"""
