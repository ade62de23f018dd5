"""Tables at addresses: a real S3 server on loopback, in an environment of its own, and fsspec's local files."""

from __future__ import annotations

import gzip
import io
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bulk.errors import JobError
from bulk.tables.addresses import RemoteFile
from bulk.tables.csv_table import count_rows, csv_layout
from bulk.tables.json_lines import json_kinds
from tests.bulk.conftest import Predict, command
from tests.export.checkpoints.environments import python_with
from tests.support.apps import until
from tests.support.server import ROOT, environment, free_port

# moto holds the buckets in memory; it is given the files of a folder at the start.
SERVER = """
import sys, time
from pathlib import Path
import boto3
from moto.server import ThreadedMotoServer

port, folder = int(sys.argv[1]), Path(sys.argv[2])
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()
client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
client.create_bucket(Bucket="reviews")
for file in folder.rglob("*.*"):
    client.put_object(Bucket="reviews", Key=str(file.relative_to(folder)), Body=file.read_bytes())
print("ready", flush=True)
time.sleep(600)
"""
READ = "import sys, fsspec; sys.stdout.buffer.write(fsspec.open(sys.argv[1]).open().read())"
ROWS = 6_000


class Store:
    """A bucket named reviews, with the files of `folder`, and the environment of its users."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python, self.folder = python, folder
        self._port = free_port()
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        endpoint = f"http://127.0.0.1:{self._port}"
        self.env = environment(PYTHONPATH=str(ROOT), AWS_ENDPOINT_URL=endpoint, AWS_MAX_ATTEMPTS="1", **keys)

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[str]]:
        """Run the server in the block."""
        line = [self.python, "-c", SERVER, str(self._port), str(self.folder)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=self.env) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                yield server
            finally:
                server.kill()

    def line(self, table: str, bundle: Path, output: Path | str, *flags: str) -> list[str]:
        """Return the command that scores `table`."""
        return [self.python, *command(table, bundle, output, *flags)[1:]]

    def predict(
        self, cwd: Path, table: str, bundle: Path, output: Path | str, *flags: str
    ) -> subprocess.CompletedProcess[str]:
        """Score `table` in the folder `cwd`."""
        line = self.line(table, bundle, output, *flags)
        return subprocess.run(line, cwd=cwd, env=self.env, capture_output=True, text=True, timeout=120, check=False)

    def read(self, address: str) -> bytes:
        """Return the bytes at `address`."""
        done = subprocess.run([self.python, "-c", READ, address], env=self.env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Store:
    """A bucket with a CSV, a compressed one, and a large one."""
    folder = tmp_path / "bucket"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a.csv").write_text("id,text\n1,good film\n2,bad film\n")
    (folder / "in" / "b.csv.gz").write_bytes(gzip.compress(b"id,text\n3,odd plot\n4,\n"))
    (folder / "in" / "_temporary.csv").write_text("a mark of Spark\n")
    many = "".join(f"{number},good plot bad film {number % 97}\n" for number in range(ROWS))
    (folder / "many.csv").write_text("id,text\n" + many)
    return Store(python_with(tmp_path_factory.getbasetemp(), "s3fs", "moto[server]"), folder)


@pytest.mark.slow
def test_a_folder_in_a_bucket_is_scored_into_the_bucket(
    store: Store, predict: Predict, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Files of a bucket give the bytes of local ones, and the faults of addresses are lines without secrets."""
    assert predict(store.folder / "in", tmp_path / "local.parquet").returncode == 1  # for the empty text
    expected = (tmp_path / "local.parquet").read_bytes()
    with store.up():
        done = store.predict(tmp_path, "s3://reviews/in", tiny_bundle, "s3://reviews/out/scored.parquet")
        assert done.returncode == 1, done.stderr
        assert "s3://reviews/in: 4 rows in 2 files" in done.stderr
        assert store.read("s3://reviews/out/scored.parquet") == expected
        assert not list(tmp_path.glob("*.unfinished"))
        again = store.predict(tmp_path, "s3://reviews/in/*.csv*", tiny_bundle, "s3://reviews/out/scored.parquet")
        assert again.stderr == ("inferer: --output s3://reviews/out/scored.parquet: exists; --overwrite replaces it\n")
        for table, output, told in (
            ("s3://reviews/none.csv", "here.csv", "s3://reviews/none.csv: does not exist"),
            ("s3://reviews/in/*.txt", "here.csv", "s3://reviews/in/*.txt: no file matches"),
            ("s3://reviews/many.csv", "s3://other/a.csv", "s3://other/a.csv: cannot be written: "),
            ("ftps://user:secret@127.0.0.1/a.csv", "here.csv", "ftps://127.0.0.1/a.csv: cannot be read: Protocol"),
        ):
            refused = store.predict(tmp_path, table, tiny_bundle, output)
            assert refused.returncode == 2
            assert refused.stderr.startswith(f"inferer: {told}"), refused.stderr
            assert refused.stderr.count("\n") == 1
            assert "secret" not in refused.stderr
    assert not (tmp_path / "here.csv").exists()


@pytest.mark.slow
def test_a_bucket_that_goes_away_ends_the_job_in_a_line_and_it_continues(
    store: Store, predict: Predict, tiny_bundle: Path, tmp_path: Path
) -> None:
    """If the bucket fails, the job says so and keeps its parts; later the same command finishes it."""
    assert predict(store.folder / "many.csv", tmp_path / "local.csv").returncode == 0
    given = ("s3://reviews/many.csv", tiny_bundle, "s3://reviews/scored.csv")
    folder = tmp_path / "scored.csv.unfinished"
    with store.up() as server:
        line = store.line(*given, "--quiet")
        with subprocess.Popen(line, cwd=tmp_path, env=store.env, stderr=subprocess.PIPE, text=True) as job:
            until(lambda: bool(list(folder.glob("part-*"))))
            os.kill(server.pid, signal.SIGKILL)
            _, told = job.communicate(timeout=120)
    assert job.returncode == 2, told
    assert told.startswith("inferer: s3://reviews/"), told
    assert told.count("\n") == 1
    assert list(folder.glob("part-*"))
    with store.up():
        done = store.predict(tmp_path, *given)
        assert done.returncode == 0, done.stderr
        assert "continues after" in done.stderr
        assert store.read("s3://reviews/scored.csv") == (tmp_path / "local.csv").read_bytes()
    assert not folder.exists()


def test_an_address_of_a_store_without_whole_objects(predict: Predict, tmp_path: Path) -> None:
    """Where a file grows under its name, the output is written under another; a change of the input is refused."""
    rows = tmp_path / "rows.csv"
    rows.write_text("id,text\n1,good film\n")
    source, target = f"file://{rows}", tmp_path / "out" / "scored.csv"
    target.parent.mkdir()
    done = predict(source, f"file://{target}")
    assert done.returncode == 0, done.stderr
    assert [file.name for file in target.parent.iterdir()] == ["scored.csv"]
    assert predict(rows, tmp_path / "local.csv").returncode == 0
    assert target.read_bytes() == (tmp_path / "local.csv").read_bytes()
    (tmp_path / "bad.csv").write_text("id,text\n1,good film\n2,\n")
    source, target = f"file://{tmp_path / 'bad.csv'}", tmp_path / "out" / "b.csv"
    assert predict(source, f"file://{target}", "--on-error", "stop").returncode == 2
    (tmp_path / "bad.csv").write_text("id,text\n1,good film\n2,bad film\n")
    done = predict(source, f"file://{target}", "--on-error", "stop")
    assert done.returncode == 2
    assert "a job that was stopped here is another one: input was" in done.stderr
    assert not target.exists()


class _Breaking(MemoryFileSystem):
    """Files that break after the first megabyte, as a network does."""

    def open(self, path: str, mode: str = "rb", **options: object) -> io.BytesIO:
        """Open `path`."""
        file: io.BytesIO = super().open(path, mode, **options)
        read = file.read

        def reading(size: int = -1) -> bytes:
            if file.tell() >= 1_000_000:
                raise TimeoutError("the connection broke")
            return read(size)

        file.read = reading  # type: ignore[method-assign]
        return file


@pytest.mark.parametrize("ending", ["csv", "jsonl", "csv.zst"])
def test_a_file_that_breaks_in_the_middle_is_a_line(ending: str) -> None:
    """A network that fails while a file is read is a JobError with the address, in every format."""
    files = _Breaking()
    files.store.clear()
    rng = random.Random(0)
    rows = "".join(f"{rng.getrandbits(200):x},text\n" for _ in range(60_000))
    lines = "id,text\n" + rows if "csv" in ending else "".join(f'{{"text": "{row}"}}\n' for row in rows.splitlines())
    data = lines.encode()
    files.pipe_file(f"/many.{ending}", pa.compress(data, "zstd", asbytes=True) if ending.endswith("zst") else data)
    file = RemoteFile(f"memory://many.{ending}", files, f"/many.{ending}")
    with pytest.raises(JobError, match=f"memory://many.{ending}: cannot be read: .*the connection broke"):
        _look(file)


def _look(file: RemoteFile) -> None:
    if file.suffix == ".jsonl":
        json_kinds(file, {})
    else:
        count_rows(file, csv_layout(file, "csv", ["text"], None, None, header=True))
