"""The ONNX Runtime session: the only file that imports onnxruntime, and the home of its options.

Made after the fork, never before: a session's threads do not exist in a forked child
(microsoft/onnxruntime#9800).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inferer.encoding import Encoding
from inferer.errors import BundleError, RunError, first_line

# onnxruntime 1.31 carries a telemetry client on Linux; it reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

_ERROR = 3  # onnxruntime's log severity: its warnings are advice to whoever made the graph
_KNOWN_INPUTS = frozenset(("input_ids", "attention_mask", "token_type_ids"))

VERSION: str = ort.__version__


class Session:
    """One model, ready to run. `run` may be called from many threads at once."""

    def __init__(self, model: Path, intra_op_threads: int, *, spinning: bool = True) -> None:
        options = ort.SessionOptions()
        # 0 would mean every core of the host, whatever the container's quota (onnxruntime#29510).
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        # A spinning thread answers the next run sooner, and takes the core from whoever else needs it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _ERROR
        try:
            self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleError(model.parent, f"{model.name} cannot be loaded: {first_line(error)}") from error
        self.inputs = frozenset(i.name for i in self._session.get_inputs())
        outputs = {o.name: o.shape for o in self._session.get_outputs()}
        if "input_ids" not in self.inputs or not self.inputs <= _KNOWN_INPUTS:
            raise BundleError(
                model.parent,
                f"{model.name} takes the inputs {sorted(self.inputs)}, expected input_ids and possibly "
                "attention_mask and token_type_ids",
            )
        if "logits" not in outputs:
            raise BundleError(model.parent, f"{model.name} has the outputs {sorted(outputs)}, expected logits")

    def run(self, encoding: Encoding) -> NDArray[np.float32]:
        """Return the logits of one encoded text, float32 of shape [labels].

        Feeds what the model declares: DistilBERT and RoBERTa take no token_type_ids. Raises RunError
        when the runtime fails.
        """
        feeds = {name: getattr(encoding, name)[np.newaxis, :] for name in self.inputs}
        try:
            (logits,) = self._session.run(["logits"], feeds)
        except Exception as error:
            raise RunError(f"the model run failed: {first_line(error)}") from error
        row: NDArray[np.float32] = logits[0]
        return row
