"""Ray Data: a Dataset with predictions."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from bulk.models import model_at, portable
from bulk.scoring import ScoreOptions, output_schema
from bulk.scoring import score as score_batches
from bulk.tables.batches import MOST_ROWS, check_text_columns
from inferer.model import ModelInferer


def score(
    dataset: Dataset,
    bundle: str | os.PathLike[str],
    options: ScoreOptions,
    *,
    cpus_per_actor: int = 1,
    **model_options: Any,
) -> Dataset:
    """Return `dataset` with the columns of predictions, by `map_batches` on actors.

    bundle: a folder on the driver; it travels in Ray's object store. The nodes need this package, with the extra
    `bulk`. Each actor has a model with `cpus_per_actor` threads; there are as many as the CPUs of the cluster allow.
    model_options: `config`, `quantize` and `golden_check` of `ModelInferer`. Raises InfererError for a faulty bundle or
    wrong options, before any work.
    """
    model = ModelInferer(bundle, **model_options)
    options = options.resolved(model)
    if schema := dataset.schema():
        columns = pa.schema(list(zip(schema.names, schema.types, strict=True)))
        check_text_columns(columns, options.text_columns, "the Dataset")
        output_schema(columns, options)  # refuses names that both have
    files = {file.name: file.read_bytes() for file in model.bundle.path.iterdir() if file.is_file()}
    most = max(1, int(ray.cluster_resources()["CPU"]) // cpus_per_actor)
    return dataset.map_batches(
        _Scorer,
        fn_constructor_args=(ray.put(files), portable(model_options), options, cpus_per_actor),
        batch_format="pyarrow",
        batch_size=MOST_ROWS,
        compute=ActorPoolStrategy(min_size=1, max_size=most),
        num_cpus=cpus_per_actor,
    )


class _Scorer:
    """The model of one actor."""

    def __init__(
        self, files: ray.ObjectRef[dict[str, bytes]], model_options: dict[str, Any], options: ScoreOptions, threads: int
    ) -> None:
        self._options = options
        with TemporaryDirectory(prefix="inferer-bundle-") as folder:
            for name, content in ray.get(files).items():
                (Path(folder) / name).write_bytes(content)
            self._model = model_at(folder, model_options, threads)

    def __call__(self, table: pa.Table) -> pa.Table:
        batches = table.combine_chunks().to_batches()
        return pa.Table.from_batches(
            score_batches(batches, self._model, self._options), output_schema(table.schema, self._options)
        )
