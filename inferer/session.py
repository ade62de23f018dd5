"""The ONNX Runtime session, its options and its share of the CPUs; the only module that imports onnxruntime.

A session is made after the fork: its threads do not exist in a forked child (microsoft/onnxruntime#9800).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferer.bundle.files import streamed
from inferer.bundle.reader import FP32, Bundle
from inferer.cpu import int8_may_saturate
from inferer.errors import BundleError, RunError, first_line
from inferer.native import METADATA, library, not_usable
from inferer.tokens.encoding import INPUTS, Encoding

# onnxruntime 1.31 has a telemetry client on Linux, which reads this on import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

# onnxruntime's severity of a fatal error. It raises an exception for other errors, too; on stderr they would break the
# form of the service's log and wait for its reader. Its warnings are advice to the author of the graph.
_FATAL = 4
_PROVIDERS = ["CPUExecutionProvider"]

# Over HTTP on two cores this gives more texts per second than no limit, and a lone caller loses nothing (docs/log.md).
_SPIN_US = 200

# Most bytes of int8 weights in the products of a small model. MiniLM-L6 has 11 MB and MiniLM-L12 21, DistilBERT 43 and
# BERT-base 85.
_SMALL_BYTES = 25_000_000
_FP32_BYTES = 4
_MOST_THREADS = 4  # of a run, by default: by Amdahl's law with the measured gain of the second, a fifth adds 8 %

VERSION: str = ort.__version__


class Parallelism(NamedTuple):
    """threads: onnxruntime's, in one run. runs: how many may be in progress together."""

    threads: int
    runs: int


def parallelism(
    bundle: Bundle, cpus: int, threads: int | None = None, runs: int | None = None, *, quantize: bool = True
) -> Parallelism:
    """Return the parallelism of a bundle's model on `cpus` CPUs. threads, runs: the caller's choice, where it has one.

    The rule comes from measurements on two CPUs (docs/performance.md): a run of a small model is over before a second
    thread has woken, so it has one, and runs side by side occupy the CPUs. A lone run of a large model gains from more.
    A caller that chooses the threads alone gets one run at a time.
    """
    if threads is not None:
        return Parallelism(threads, runs or 1)
    threads = 1 if _is_small(bundle, quantize=quantize) else min(cpus, _MOST_THREADS)
    # Runs share the threads beyond their own, so half as many runs as CPUs leave none idle.
    return Parallelism(threads, runs or (cpus if threads == 1 else max(1, cpus // 2)))


class Session:
    """A model that is ready to run. `run` may be called from many threads at once.

    exact: compute int8 products without saturation, which is slower, on any x86 CPU; this is the default where
    /proc/cpuinfo shows the need. The attribute `exact` tells whether it is done: some models do not allow it.
    native: compute by the native operators where the library is there; the attribute `native` tells whether it is done.
    pad_id: the token id of padding, which is masked. sha256: the SHA-256 that the loaded bytes must have, in hex; None
    loads any.
    """

    def __init__(
        self,
        model: Path,
        intra_op_threads: int,
        *,
        spinning: bool = True,
        exact: bool = False,
        native: bool = True,
        pad_id: int = 0,
        sha256: object = None,
    ) -> None:
        self._pad_id = pad_id
        self.exact = exact or int8_may_saturate()
        self._operators = native
        try:
            self._session = self._load(model, intra_op_threads, spinning, sha256)
        except BundleError:
            raise
        except Exception as error:
            raise BundleError(model.parent, f"{model.name} cannot be loaded: {first_line(error)}") from error
        self.inputs = frozenset(i.name for i in self._session.get_inputs())
        calls = self._session.get_modelmeta().custom_metadata_map
        self.native = self._operators and METADATA in calls
        outputs = {o.name: o.shape for o in self._session.get_outputs()}
        if "input_ids" not in self.inputs or not self.inputs <= set(INPUTS):
            expected = "expected input_ids and possibly attention_mask and token_type_ids"
            raise BundleError(model.parent, f"{model.name} takes the inputs {sorted(self.inputs)}, {expected}")
        if "logits" not in outputs:
            raise BundleError(model.parent, f"{model.name} has the outputs {sorted(outputs)}, expected logits")

    def _load(self, model: Path, threads: int, spinning: bool, sha256: object) -> ort.InferenceSession:
        if self.exact:
            options = self._options(threads, spinning)
            # s8 weights become u8, and u8*u8 kernels sum in 32 bits. The entry affects int8 weights on x86 alone; a
            # CPU with VNNI would lose speed.
            options.add_session_config_entry("session.x64quantprecision", "1")
            try:
                return _session(model, options, sha256)
            except Exception:  # noqa: BLE001 - a fault of the model itself is raised below
                # onnxruntime 1.31.1 cannot convert a weight that several nodes share to u8, as in ALBERT ("Attempt to
                # replace the existing tensor"). The model runs as it is, and the golden check shows the effect.
                self.exact = False
        return _session(model, self._options(threads, spinning), sha256)

    def _options(self, threads: int, spinning: bool) -> ort.SessionOptions:
        options = _options(threads, spinning)
        self._operators = self._operators and _with_operators(options)
        return options

    def run(self, encoding: Encoding) -> NDArray[np.float32]:
        """Return the logits of one encoded text, float32 of shape [labels]; errors as `run_batch`."""
        return np.asarray(self.run_batch([encoding])[0])

    def run_batch(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        """Return the logits of encoded texts, float32 of shape [texts, labels]; shorter texts are padded.

        Feeds the model's declared inputs (DistilBERT takes no token_type_ids). Raises RunError when the runtime fails.
        """
        feeds = {name: self._padded([getattr(e, name) for e in encodings], name) for name in self.inputs}
        try:
            logits: NDArray[np.float32] = self._session.run(["logits"], feeds)[0]
        except Exception as error:
            raise RunError(f"the model run failed: {first_line(error)}") from error
        return logits

    def _padded(self, rows: list[NDArray[Any]], name: str) -> NDArray[np.int64]:
        """Return `rows` as one array [texts, tokens], padded. Padding is masked and changes no bit of the logits."""
        if len(rows) == 1:
            return rows[0][np.newaxis, :].astype(np.int64, copy=False)
        fill = self._pad_id if name == "input_ids" else 0
        padded = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
        for row, values in zip(padded, rows, strict=True):
            row[: len(values)] = values
        return padded


def _session(model: Path, options: ort.SessionOptions, sha256: object) -> ort.InferenceSession:
    whole: AbstractContextManager[str | bytes] = nullcontext(str(model))
    with whole if sha256 is None else streamed(model, sha256) as source:
        # A retry would find the pipe empty.
        return ort.InferenceSession(source, options, providers=_PROVIDERS, enable_fallback=0)


def _with_operators(options: ort.SessionOptions) -> bool:
    """Add the native operators to `options`; return whether they are there."""
    file = library()
    if file is None:
        return False
    try:
        options.register_custom_ops_library(str(file))
    except Exception as error:  # noqa: BLE001 - whatever the loader says, models run without
        not_usable(first_line(error))
        return False
    return True


def _options(threads: int, spinning: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # 0 would mean every core of the host, regardless of the container's quota (onnxruntime#29510).
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread starts the next part of a run at once, but keeps its core from other work. The limit covers the
    # gaps within a run and not the gaps between runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    return options


def _is_small(bundle: Bundle, *, quantize: bool) -> bool:
    size = _FP32_BYTES if not quantize or bundle.scheme == FP32 else 1
    embeddings = bundle.vocab_size * bundle.embedding_width
    return bundle.model_path(quantize=quantize).stat().st_size / size - embeddings <= _SMALL_BYTES
