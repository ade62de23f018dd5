"""Apache Spark: a DataFrame with predictions, and the batches of a job scored by a cluster."""

from __future__ import annotations

import atexit
import collections
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import SparkFiles, TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema
from pyspark.sql.types import StructField, StructType

import bulk
import inferer
from bulk.errors import JobError
from bulk.models import model_at, portable
from bulk.scoring import ScoreOptions, output_schema
from bulk.scoring import score as score_batches
from bulk.tables.batches import ROW_FAULT, check_text_columns
from inferer.bundle.reader import Bundle, read_bundle
from inferer.errors import first_line
from inferer.model import ModelInferer
from inferer.tokens.texts import SIDES

_ROW = "row"
_BATCHES = 4  # per core in a window: a lost executor costs at most that much work
_WINDOW_BYTES = 256_000_000
_AHEAD = 2  # windows at work, so that the cores of a finished one go on with the next


def score(frame: DataFrame, bundle: str | os.PathLike[str], options: ScoreOptions, **model_options: Any) -> DataFrame:
    """Return `frame` with the columns of predictions, by `mapInArrow`.

    bundle: a folder on the driver; it travels to the executors, and so does this code: they need the packages of
    `inferer` (numpy, onnxruntime, tokenizers, tqdm) and pyarrow. Each Python worker loads the model once, with as many
    threads as its task has cores. model_options: `config`, `quantize` and `golden_check` of `ModelInferer`. Raises
    InfererError for a faulty bundle or wrong options, before any task.
    """
    model = ModelInferer(bundle, **model_options)
    options = options.resolved(model)
    schema = to_arrow_schema(frame.schema)
    check_text_columns(schema, options.text_columns, "the DataFrame")
    output_schema(schema, options)  # refuses names that both have
    return _mapped(frame, _Task(_sent(frame.sparkSession, model.bundle), portable(model_options), options))


def _mapped(frame: DataFrame, task: _Task) -> DataFrame:
    kept = [field for field in frame.schema.fields if field.name != ROW_FAULT]
    added = [StructField(field.name, from_arrow_type(field.type)) for field in task.options.fields()]
    return frame.mapInArrow(task, StructType([*kept, *added]))


@dataclass(frozen=True)
class _Task:
    """The work of one task. archive: the bundle's name among the files of the application."""

    archive: str
    model_options: dict[str, Any]
    options: ScoreOptions

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        threads = 1 if context is None else context.cpus()
        yield from score_batches(
            batches, model_at(SparkFiles.get(self.archive), self.model_options, threads), self.options
        )


def _sent(spark: SparkSession, bundle: Bundle) -> str:
    """Send the bundle and this code to the executors, once per application; return the bundle's name there."""
    context = spark.sparkContext
    archive = f"bundle-{bundle.manifest['manifest_sha256'][:16]}"
    code = f"inferer-{inferer.__version__}.zip"
    if not any(name.endswith(f"#{archive}") for name in context.listArchives):
        folder = Path(tempfile.mkdtemp(prefix="inferer-spark-"))  # executors fetch from it while the application runs
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        packed = _packed(folder / f"{archive}.zip", (bundle.path, "*", bundle.path))
        context.addArchive(f"{packed}#{archive}")
        ours = [Path(str(package.__file__)).parent for package in (inferer, bulk)]
        context.addPyFile(str(_packed(folder / code, *((root, "*.py", root.parent) for root in ours))))
    return archive


def _packed(target: Path, *trees: tuple[Path, str, Path]) -> Path:
    """Write the files of `trees` into a zip: each a folder, a pattern of names, and the folder of the zip's root."""
    with zipfile.ZipFile(target, "w") as packed:
        for folder, pattern, root in trees:
            for file in sorted(one for one in folder.rglob(pattern) if one.is_file()):
                packed.write(file, file.relative_to(root))
    return target


def session(master: str) -> SparkSession:
    """Return a session of Spark on `master`. Raises JobError where it cannot start."""
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise JobError("--spark: Spark needs Java 17 or later, and `java` is neither on PATH nor in JAVA_HOME")
    if master.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(master).appName("inferer predict")
    builder = builder.config("spark.ui.showConsoleProgress", "false").config("spark.log.level", "ERROR")
    try:
        return builder.getOrCreate()
    except Exception as error:  # py4j and Spark have their own
        raise JobError(f"--spark {master}: cannot start: {_reason(error)}") from error


def scored(
    batches: Iterable[pa.RecordBatch],
    spark: SparkSession,
    bundle: str,
    model_options: dict[str, Any],
    options: ScoreOptions,
) -> Iterator[pa.RecordBatch]:
    """Yield `batches` with their predictions, in order. At most a few windows of batches are in memory.

    Texts alone go to the cluster and predictions come back, so that the other columns keep their types. Raises
    JobError where Spark gives up.
    """
    task = _Task(_sent(spark, read_bundle(Path(bundle))), portable(model_options), options)
    waiting: collections.deque[Future[list[pa.RecordBatch]]] = collections.deque()
    with ThreadPoolExecutor(_AHEAD) as pool:
        try:
            for window in _windows(batches, spark):
                waiting.append(pool.submit(_window, window, spark, task))
                if len(waiting) >= _AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except PySparkException as error:
            remedy = "the same command continues"
            raise JobError(f"Spark gave up: {_reason(error)}; {remedy}") from error
        finally:
            spark.sparkContext.cancelAllJobs()


def _windows(batches: Iterable[pa.RecordBatch], spark: SparkSession) -> Iterator[list[pa.RecordBatch]]:
    window: list[pa.RecordBatch] = []
    for batch in batches:
        window.append(batch)
        most = _BATCHES * spark.sparkContext.defaultParallelism
        if len(window) >= most or sum(one.nbytes for one in window) > _WINDOW_BYTES:
            yield window
            window = []
    if window:
        yield window


def _window(window: list[pa.RecordBatch], spark: SparkSession, task: _Task) -> list[pa.RecordBatch]:
    options = task.options
    sides = {
        SIDES[place]: pa.concat_arrays([batch.column(name).cast(pa.string()) for batch in window])
        for place, name in enumerate(options.text_columns)
    }
    faults = pa.concat_arrays([batch.column(ROW_FAULT) for batch in window])
    rows = pa.array(range(len(faults)), pa.int64())
    table = pa.table({_ROW: rows, **sides, ROW_FAULT: faults})
    spread = spark.createDataFrame(table).repartition(len(window))  # a task per batch, so that all cores end together
    pair = None if options.text_pair_column is None else SIDES[1]
    frame = _mapped(spread, replace(task, options=replace(options, text_column=SIDES[0], text_pair_column=pair)))
    found = frame.drop(*sides).toArrow().sort_by(_ROW).drop_columns(_ROW)
    predicted = found.cast(pa.schema(options.fields())).combine_chunks()
    done, start = [], 0
    for batch in window:
        (part,) = predicted.slice(start, batch.num_rows).to_batches()
        start += batch.num_rows
        kept = [column for name, column in zip(batch.schema.names, batch.columns, strict=True) if name != ROW_FAULT]
        done.append(pa.record_batch([*kept, *part.columns], schema=output_schema(batch.schema, options)))
    return done


def _reason(error: Exception) -> str:
    """Return the line that says most of `error`: the last one of a Python worker's traceback, or the first."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    for place, line in enumerate(lines):
        if line.startswith("Traceback"):
            rest = lines[place + 1 :]
            return next((line for line in rest if line[0] not in " \t"), line).strip()
    return first_line(error)
