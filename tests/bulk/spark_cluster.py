"""Apache Spark's standalone cluster on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.apps import until
from tests.support.server import environment, free_port

_DEPLOY = "org.apache.spark.deploy"


@dataclass
class SparkCluster:
    """A master, workers of one core each, and the environment of those who use them. python: has pyspark."""

    python: str
    master: str
    workers: list[subprocess.Popen[bytes]]
    env: dict[str, str]

    def kill_a_worker(self) -> None:
        """Kill a worker with its executor."""
        os.killpg(self.workers[0].pid, signal.SIGKILL)


@contextmanager
def standalone(python: str, folder: Path, workers: int) -> Iterator[SparkCluster]:
    """Run a cluster in the block, with its files in `folder`. The executors have no package of ours."""
    settings = folder / "conf"
    settings.mkdir()
    memory = "spark.executor.memory 512m\nspark.driver.memory 512m\nspark.ui.enabled false\n"
    (settings / "spark-defaults.conf").write_text(memory)
    folders = {name: str(folder / name.lower()) for name in ("SPARK_WORKER_DIR", "SPARK_LOCAL_DIRS")}
    paths = {"PYSPARK_PYTHON": python, "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    env = environment(SPARK_LOCAL_IP="127.0.0.1", SPARK_CONF_DIR=str(settings), **folders, **paths)
    launcher = Path(python).with_name("spark-class")
    port, page = free_port(), free_port()
    master = f"spark://127.0.0.1:{port}"
    with ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[bytes]:
            quiet = subprocess.DEVNULL
            line = [launcher, *words]
            process = subprocess.Popen(line, env=env, cwd=folder, start_new_session=True, stdout=quiet, stderr=quiet)
            stack.callback(_end, process)
            return process

        start(f"{_DEPLOY}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page))
        to_master = ("--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--webui-port", "0", master)
        running = [start(f"{_DEPLOY}.worker.Worker", *to_master) for _ in range(workers)]
        until(lambda: _alive(page) == workers, 60)
        yield SparkCluster(python, master, running, env)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _alive(page: int) -> int:
    """Return how many workers the master's page counts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=5) as reply:
            return int(reply.read().decode().count('"ALIVE"')) - 1  # the master's own
    except OSError:
        return 0
