"""Real clusters on loopback, Spark's of two workers and Ray's of two nodes: the local result, bit for bit."""

from __future__ import annotations

import importlib.util
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.csv import read_csv

from inferer import ModelInferer
from tests.bulk.conftest import Predict
from tests.bulk.spark_cluster import SparkCluster, standalone
from tests.bulk.test_jobs import table
from tests.export.checkpoints.environments import python_with
from tests.support.apps import until
from tests.support.server import ROOT, run_to_end

pytestmark = pytest.mark.slow

SPARK = ("pyspark==4.3.0", "pandas<3")
RAY = ("ray[data]==2.60.0",)
ROWS = 24_000
PAIR_COLUMNS = ("--text-column", "query", "--text-pair-column", "document")
COLUMNS = ("--columns", "label,score,scores,num_tokens,truncated")

# A person's own job: other columns than text keep their types, and faults are told before any task starts.
SPARK_JOB = """
import sys
from pyspark.sql import SparkSession
from bulk.errors import JobError
from bulk.scoring import ScoreOptions
from bulk.spark import score

master, bundle, rows, target = sys.argv[1:]
spark = SparkSession.builder.master(master).getOrCreate()
frame = spark.read.parquet(rows).selectExpr("id", "text", "date '2026-01-02' as day")
columns = ("label", "score", "scores", "num_tokens", "truncated")
scored = score(frame, bundle, ScoreOptions("text", columns))
for wrong, options in ((frame, ScoreOptions("body")), (frame, ScoreOptions("id")), (scored, ScoreOptions("text"))):
    try:
        score(wrong, bundle, options)
    except JobError as error:
        print("refused:", error)
scored.coalesce(1).write.parquet(target)
"""

# A person's job on a cluster of one CPU, with faults that are told before any work.
RAY_JOB = """
import sys
import pyarrow as pa, pyarrow.parquet as pq, ray
from ray.cluster_utils import Cluster
from bulk.errors import JobError
from bulk.ray import score
from bulk.scoring import ScoreOptions

bundle, rows, target, ranker, pairs = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
ray.init(address=cluster.address)
dataset = ray.data.read_parquet(rows)
columns = ("label", "score", "scores", "num_tokens", "truncated")
for options, cpus in ((ScoreOptions("body"), 1), (ScoreOptions("id"), 1), (ScoreOptions("text"), 2)):
    try:
        score(dataset, bundle, options, cpus_per_task=cpus)
    except JobError as error:
        print("refused:", error)
blocks = list(score(dataset, bundle, ScoreOptions("text", columns)).iter_batches(batch_format="pyarrow"))
pq.write_table(pa.concat_tables(blocks).sort_by("id"), target)
dataset = ray.data.from_arrow(pq.read_table(pairs)).repartition(4)
found = score(dataset, ranker, ScoreOptions("query", ("score",), text_pair_column="document"))
blocks = list(found.iter_batches(batch_format="pyarrow", batch_size=None))
pq.write_table(pa.concat_tables(blocks).sort_by("id"), pairs)
ray.shutdown()
cluster.shutdown()
"""

# The blocks of the input lie on the second node, which is killed once the first rows have come.
RAY_KILL = """
import sys
import pyarrow as pa, pyarrow.parquet as pq, ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from bulk.ray import score
from bulk.scoring import ScoreOptions

bundle, rows, target = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
ray.init(address=cluster.address)
there = NodeAffinitySchedulingStrategy(node.node_id, soft=True)
dataset = ray.data.from_arrow(pq.read_table(rows)).repartition(16)
dataset = dataset.map_batches(lambda table: table, batch_format="pyarrow", scheduling_strategy=there).materialize()
columns = ("label", "score", "scores", "num_tokens", "truncated")
scored, found = score(dataset, bundle, ScoreOptions("text", columns)), []
for block in scored.iter_batches(batch_format="pyarrow", batch_size=None):
    found.append(block)
    if len(found) == 1:
        cluster.remove_node(node, allow_graceful=False)
        print("killed with", block.num_rows, "rows")
pq.write_table(pa.concat_tables(found).sort_by("id"), target)
ray.shutdown()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    """Apache Spark's standalone cluster of two workers."""
    if not shutil.which("java"):
        pytest.skip("java is not installed")
    folder = tmp_path_factory.mktemp("spark")
    with standalone(python_with(tmp_path_factory.getbasetemp(), *SPARK), folder, workers=2) as cluster:
        yield cluster


def test_a_dataframe_of_spark_gets_the_columns_of_predictions(
    spark: SparkCluster, predict: Predict, tiny_bundle: Path, tmp_path: Path
) -> None:
    """`bulk.spark.score` in a person's own job: the local values, row for row; faults are told before the work."""
    texts = _local(predict, tmp_path, 3_000)
    target = tmp_path / "target"
    env = spark.env | {"PYTHONPATH": str(ROOT)}
    done = run_to_end(
        spark.python, "-c", SPARK_JOB, spark.master, str(tiny_bundle), str(texts), str(target), timeout_s=300, **env
    )
    assert done.returncode == 0, done.stderr
    refused = [one for one in done.stdout.splitlines() if one.startswith("refused")]
    assert refused == [
        "refused: the DataFrame: the column 'body' is missing; the columns are 'id', 'text', 'day'",
        "refused: the DataFrame: the column 'id' is of type int64, expected text",
        "refused: the input already has the column 'predicted_label': give another --prefix",
    ]
    found = pq.read_table(target).sort_by("id")
    assert str(found["day"][0]) == "2026-01-02"
    _assert_same(found, pq.read_table(tmp_path / "local.parquet"))


def test_spark_gives_the_local_bytes_also_when_a_worker_dies(
    spark: SparkCluster, predict: Predict, tiny_bundle: Path, tmp_path: Path
) -> None:
    """The command on a cluster writes the bytes of a local run, one of its two workers killed in the middle."""
    rows = table(tmp_path / "rows.csv", ROWS)
    assert predict(rows, tmp_path / "local.parquet", *COLUMNS).returncode == 1
    output = tmp_path / "scored.parquet"
    line = [spark.python, "-m", "bulk", str(rows), "--model", str(tiny_bundle), "--text-column", "text"]
    line += ["--output", str(output), *COLUMNS, "--spark", spark.master]
    env = spark.env | {"PYTHONPATH": str(ROOT)}
    folder = output.with_name(output.name + ".unfinished")
    with subprocess.Popen(line, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as job:
        until(lambda: len(list(folder.glob("part-*"))) >= 8 or job.poll() is not None, 120)
        assert job.poll() is None
        spark.kill_a_worker()
        _, told = job.communicate(timeout=300)
    assert job.returncode == 1, told
    assert output.read_bytes() == (tmp_path / "local.parquet").read_bytes()


def test_pairs_have_the_local_bytes_on_spark(spark: SparkCluster, rank_bundle: Path, tmp_path: Path) -> None:
    """A table of pairs for a ranker, on a cluster: the bytes of a local run, errors included."""
    rows = pair_table(tmp_path / "pairs.csv")
    line = [spark.python, "-m", "bulk", str(rows), "--model", str(rank_bundle), *PAIR_COLUMNS, "--quiet"]
    for output, more in (("local.csv", ("--processes", "1")), ("spark.csv", ("--spark", spark.master))):
        env = spark.env | {"PYTHONPATH": str(ROOT)}
        done = run_to_end(*line, "--output", str(tmp_path / output), *more, cwd=tmp_path, timeout_s=300, **env)
        assert done.returncode == 1, done.stderr
    local = (tmp_path / "local.csv").read_text()
    assert local.count("the second text is empty") > 10
    assert (tmp_path / "spark.csv").read_text() == local


@pytest.mark.parametrize("fault", ["no pyspark", "no java", "a bare python"])
def test_spark_that_cannot_run_is_a_line(
    fault: str, tiny_bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A missing package, Java or package of the executors ends the command in one line with the remedy."""
    rows = tmp_path / "rows.csv"
    rows.write_text("text\ngood\n")
    python, env = sys.executable, {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
    told = "--spark needs pyspark"
    if fault == "no pyspark":
        if importlib.util.find_spec("pyspark"):
            pytest.skip("pyspark is installed here")
    else:
        python = python_with(tmp_path_factory.getbasetemp(), *SPARK)
        if fault == "no java":
            env["PATH"], told = str(Path(python).parent), "--spark: Spark needs Java 17"
        elif not shutil.which("java"):
            pytest.skip("java is not installed")
        else:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
            env["PYSPARK_PYTHON"] = str(tmp_path / "bare" / "bin" / "python")
            told = "Spark gave up: ModuleNotFoundError: No module"
    line = [python, "-m", "bulk", str(rows), "--model", str(tiny_bundle), "--text-column", "text"]
    done = run_to_end(*line, "--output", "scored.csv", "--spark", "local[1]", "--quiet", cwd=tmp_path, **env)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"inferer: {told}"), done.stderr
    assert 'File "' not in last
    assert not (tmp_path / "scored.csv").exists()


def test_a_dataset_of_ray_gets_the_columns_of_predictions(
    predict: Predict, tiny_bundle: Path, rank_bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`bulk.ray.score` on a cluster of one CPU: the local values, row for row, of pairs too."""
    texts = _local(predict, tmp_path, ROWS)
    target, pairs = tmp_path / "scored.parquet", tmp_path / "pairs.parquet"
    rows = read_csv(pair_table(tmp_path / "pairs.csv"))
    pq.write_table(rows, pairs)
    told = _on_ray(tmp_path_factory, RAY_JOB, tiny_bundle, texts, target, rank_bundle, pairs)
    refused = [one for one in told.splitlines() if one.startswith("refused")]
    assert refused == [
        "refused: the Dataset: the column 'body' is missing; the columns are 'id', 'text'",
        "refused: the Dataset: the column 'id' is of type int64, expected text",
        "refused: cpus_per_task is 2, but the largest node of the cluster has 1 CPUs",
    ]
    _assert_same(pq.read_table(target), pq.read_table(tmp_path / "local.parquet"))
    model, scored = ModelInferer(rank_bundle, intra_op_threads=1), pq.read_table(pairs)
    whole = [(a, b) for a, b in zip(rows["query"].to_pylist(), rows["document"].to_pylist(), strict=True) if a and b]
    scores = [score for score in scored["predicted_score"].to_pylist() if score is not None]
    assert scores == [model.predict(*pair).score for pair in whole]


def test_ray_gives_the_local_rows_also_when_a_node_dies(
    predict: Predict, tiny_bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of two nodes the one with the input's blocks is killed in the middle; the other one computes all again."""
    rows, times = 12_000, 4
    texts = _local(predict, tmp_path, rows)
    pq.write_table(pa.concat_tables([pq.read_table(texts)] * times), texts)
    target = tmp_path / "scored.parquet"
    told = _on_ray(tmp_path_factory, RAY_KILL, tiny_bundle, texts, target)
    (killed,) = [one for one in told.splitlines() if one.startswith("killed with")]
    assert int(killed.split()[2]) < rows
    local = pq.read_table(tmp_path / "local.parquet")
    _assert_same(pq.read_table(target), local.take([row for row in range(local.num_rows) for _ in range(times)]))


def _on_ray(factory: pytest.TempPathFactory, job: str, *given: Path) -> str:
    """Run `job` where Ray is installed; return what it printed."""
    python = python_with(factory.getbasetemp(), *RAY)
    env = {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": gettempdir()}
    done = run_to_end(python, "-c", job, *map(str, given), timeout_s=600, **env)
    assert done.returncode == 0, done.stderr[-3000:]
    return str(done.stdout)


def pair_table(path: Path) -> Path:
    """Write a CSV of queries and documents, some of them empty."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("id,query,document\n")
        for number in range(3_000):
            query, document = (" ".join(rng.choices(("good", "bad", "odd"), k=rng.randint(0, 6))) for _ in "ab")
            file.write(f"{number},{query},{document}\n")
    return path


def _local(predict: Predict, folder: Path, rows: int) -> Path:
    """Score a table here into local.parquet; return a file of its texts, with numbers as id."""
    assert predict(table(folder / "rows.csv", rows), folder / "local.parquet", *COLUMNS).returncode == 1
    local = pq.read_table(folder / "local.parquet")
    texts = folder / "texts.parquet"
    pq.write_table(pa.table({"id": local["id"].cast(pa.int64()), "text": local["text"]}), texts)
    return texts


def _assert_same(found: pa.Table, expected: pa.Table) -> None:
    """Assert that the predictions are equal, bit for bit."""
    names = [name for name in expected.column_names if name not in ("id", "text")]
    assert found.num_rows == expected.num_rows
    for name in names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name
