"""The other stages as processes: which module runs one, which packages it needs, and how it starts.

A stage is executed, never imported, so that torch never enters the process of its caller.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The folder of our packages, first on a stage's path: the caller's folder may have an `export` of its own.
_ROOT = Path(__file__).resolve().parents[2]

# glibc's malloc asks Linux for pages of 2 MB (madvise). In a virtual machine a run with pages of 4 KB can take three
# times as long: each address goes through the page tables of the guest and of the host.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the module to execute, the extra of the package that brings its needs, and some of these needs."""

    module: str
    extra: str
    needs: tuple[str, ...]

    def missing(self) -> list[str]:
        """Return the packages that this stage needs and that are not installed."""
        package = self.module.partition(".")[0]
        ours = () if (_ROOT / package / "__init__.py").is_file() else (package,)
        return [*ours, *(name for name in self.needs if importlib.util.find_spec(name) is None)]

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line that runs this stage with `arguments`; -P keeps the caller's folder off its path."""
        return [sys.executable, "-P", "-m", self.module, *arguments]


TRAIN = Stage("training", "training", ("torch", "transformers", "accelerate", "sklearn"))
EVALUATE = Stage("training.evaluate", "training", TRAIN.needs)
EXPORT = Stage("export", "export", ("torch", "transformers", "onnxscript", "onnx"))
BULK = Stage("bulk", "bulk", ("pyarrow",))
SERVE = Stage(
    "service.process.serve", "serve", ("flask", "flask_swagger_ui", "gunicorn", "msgspec", "prometheus_client")
)


def stage_environment() -> dict[str, str]:
    """Return the environment for a stage: huge pages, this process's own, and our packages first on PYTHONPATH."""
    paths = (str(_ROOT), os.environ.get("PYTHONPATH"))
    return {**HUGE_PAGES, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
