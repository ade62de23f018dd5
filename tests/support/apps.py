"""The real application with a model that tests can hold; gunicorn imports the module written here."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import ROOT, Server

# Each run of the model waits while the file `hold` exists, and appends its number of texts to the file `runs`. One run
# at a time, whatever the CPUs.
_HELD = """
import os, sys, time
from pathlib import Path
os.environ["INFERER_PARALLEL_RUNS"] = "1"
sys.path.insert(0, {root!r})
from service.app import app_or_exit

app = app_or_exit()
batcher = app.extensions["inferer"].inferer.batcher
hold, runs, run = Path({hold!r}), Path({runs!r}), batcher._run

def held(encodings):
    with runs.open("a") as file:
        file.write(str(len(encodings)) + "\\n")
    while hold.exists():
        time.sleep(0.002)
    return run(encodings)

batcher._run = held
"""


@dataclass
class HeldApp:
    """An application whose model can be held; `name` is for gunicorn, with `folder` on PYTHONPATH."""

    folder: Path
    name: str = "held_app:app"

    @property
    def runs(self) -> list[int]:
        """Return the sizes of the runs that began."""
        file = self.folder / "runs"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold every run that begins in the block until it ends."""
        (self.folder / "hold").touch()
        try:
            yield
        finally:
            (self.folder / "hold").unlink()


def held_app(folder: Path) -> HeldApp:
    """Write the application into `folder`."""
    source = textwrap.dedent(_HELD).format(root=str(ROOT), hold=str(folder / "hold"), runs=str(folder / "runs"))
    (folder / "held_app.py").write_text(source)
    return HeldApp(folder)


def waiting(server: Server, count: int) -> None:
    """Return when `count` texts wait for a run."""
    until(lambda: metric(server, "inferer_queue_size") == count)


def metric(server: Server, sample: str, **labels: str) -> float:
    """Return the value of a sample in /metrics; 0 when it is not there."""
    from prometheus_client.parser import text_string_to_metric_families

    text = server.request("GET", "/metrics").body.decode()
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == sample and labels.items() <= one.labels.items():
                return one.value
    return 0.0


def comes_to(server: Server, value: object, sample: str, **labels: str) -> None:
    """Return once a sample in /metrics has `value`: the service counts a request after its reply."""
    end = time.monotonic() + 20
    while (found := metric(server, sample, **labels)) != value:
        assert time.monotonic() < end, f"{sample} {labels} stays {found}, expected {value}"
        time.sleep(0.02)


def until(holds: object, seconds: float = 20) -> None:
    """Return when `holds()` is true; fails after `seconds`."""
    assert callable(holds)
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)
