"""Hugging Face's optimum, in an environment of its own, reads bundles."""

from __future__ import annotations

import json

import numpy as np
import pytest

from inferer import ModelInferer
from tests.export.checkpoints.environments import python_with
from tests.support import architectures
from tests.support.architectures import LABELS, LONG_TEXT, TEXTS
from tests.support.server import run_to_end

pytestmark = pytest.mark.slow

OPTIMUM = ("optimum-onnx==0.1.0", "transformers==4.57.6")
# README's and docs/export.md's lines; prints the labels and the logits of each text.
SCRIPT = """
import json, sys
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer

bundle, *texts = sys.argv[1:]
model = ORTModelForSequenceClassification.from_pretrained(bundle, file_name="model_quantized.onnx")
tokenizer = AutoTokenizer.from_pretrained(bundle)
rows = [model(**tokenizer(text, truncation=True, return_tensors="np")).logits[0].tolist() for text in texts]
print(json.dumps([list(model.config.id2label.values()), rows]))
"""


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "deberta-v2", "modernbert"])
def test_optimum_reads_the_bundle(tmp_path_factory: pytest.TempPathFactory, architecture: str) -> None:
    """Optimum's own class loads the bundle and its tokenizer, and gives ModelInferer's logits."""
    bundle = architectures.bundle(tmp_path_factory, architecture)
    texts = (*TEXTS, LONG_TEXT)
    python = python_with(tmp_path_factory.getbasetemp(), *OPTIMUM)
    done = run_to_end(python, "-c", SCRIPT, str(bundle), *texts, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    labels, logits = json.loads(done.stdout.splitlines()[-1])
    ours = ModelInferer(bundle)
    np.testing.assert_allclose(logits, [ours.logits(text) for text in texts], atol=1e-5)
    assert tuple(labels) == LABELS
