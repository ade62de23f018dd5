"""Ray Data: a Dataset with predictions."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset

from bulk.errors import JobError
from bulk.models import model_of, portable
from bulk.scoring import ScoreOptions, output_schema
from bulk.scoring import score as score_batches
from bulk.tables.batches import MOST_ROWS, check_text_columns
from inferer.model import ModelInferer


def score(
    dataset: Dataset,
    bundle: str | os.PathLike[str],
    options: ScoreOptions,
    *,
    cpus_per_task: int = 1,
    **model_options: Any,
) -> Dataset:
    """Return `dataset` with the columns of predictions, by `map_batches` in tasks.

    bundle: a folder on the driver; it travels in Ray's object store. The nodes need this package, with the extra
    `bulk`. Each process of Ray loads the model once, with `cpus_per_task` threads. model_options: `config`, `quantize`
    and `golden_check` of `ModelInferer`. Raises, before any work, InfererError for a faulty bundle or wrong options,
    and JobError where no node has the CPUs of a task.
    """
    model = ModelInferer(bundle, **model_options)
    options = options.resolved(model)
    if schema := dataset.schema():
        columns = pa.schema(list(zip(schema.names, schema.types, strict=True)))
        check_text_columns(columns, options.text_columns, "the Dataset")
        output_schema(columns, options)  # refuses names that both have
    most = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    if cpus_per_task > most:
        raise JobError(f"cpus_per_task is {cpus_per_task}, but the largest node of the cluster has {most} CPUs")
    files = {file.name: file.read_bytes() for file in model.bundle.path.iterdir() if file.is_file()}
    name = str(model.bundle.manifest["manifest_sha256"])
    # Tasks, for an actor holds its CPU while it waits: with actors on all CPUs, Ray had none to read the input, or to
    # compute the blocks of a dead node again, and waited for ever.
    return dataset.map_batches(
        _scored,
        fn_args=(name, ray.put(files), portable(model_options), options, cpus_per_task),
        batch_format="pyarrow",
        batch_size=MOST_ROWS,
        num_cpus=cpus_per_task,
    )


def _scored(
    table: pa.Table,
    name: str,
    files: ray.ObjectRef[dict[str, bytes]],
    model_options: dict[str, Any],
    options: ScoreOptions,
    threads: int,
) -> pa.Table:
    model = model_of(name, lambda: ray.get(files), model_options, threads)
    batches = table.combine_chunks().to_batches()
    return pa.Table.from_batches(score_batches(batches, model, options), output_schema(table.schema, options))
