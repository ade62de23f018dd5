"""int8 on an emulated x86 CPU without VNNI: products saturate, and exact mode prevents it."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inferer.native
from inferer import read_bundle
from tests.support import architectures
from tests.support.server import ROOT, run_to_end

pytestmark = pytest.mark.slow

QEMU = shutil.which("qemu-x86_64")


def emulated(bundle: Path, cpu: str = "Haswell") -> dict[str, Any]:
    """Return the results of an emulated CPU without VNNI for a small int8 bundle of random weights."""
    if QEMU is None:
        pytest.skip("qemu-x86_64 is not installed (apt-get install qemu-user)")
    if platform.machine() != "x86_64":
        pytest.skip(f"the Python here is one for {platform.machine()}, the emulated CPU is x86-64")
    command = (QEMU, "-cpu", cpu, sys.executable, "-m", "tests.support.on_a_cpu_without_vnni", str(bundle))
    done = run_to_end(*command, cwd=ROOT, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results for a BERT."""
    return emulated(architectures.bundle(tmp_path_factory, "bert"))


def test_saturating_int8_is_refused(bert: dict[str, Any]) -> None:
    """Without exact mode, int8 on a CPU without VNNI fails the golden check on most texts."""
    failed = re.search(r"golden check failed on (\d+) of", bert["inexact"]["error"])
    assert failed is not None
    assert int(failed[1]) > 15


def test_exact_mode_passes_when_the_cpu_is_shown(bert: dict[str, Any]) -> None:
    """When the CPU shows that it has no VNNI, the model is exact from the start and passes."""
    assert bert["shown"]["exact_because"] == "this CPU shows no VNNI instructions"
    assert bert["shown"]["outcome"] == "passed"


def test_exact_mode_is_found_when_the_cpu_is_hidden(bert: dict[str, Any]) -> None:
    """When /proc/cpuinfo shows another CPU, the failed check leads to exact mode, which passes."""
    assert bert["hidden"]["exact_because"] == "the golden check failed without"
    assert bert["hidden"]["outcome"] == "passed"


def test_exact_mode_gives_the_logits_of_a_cpu_with_vnni(
    bert: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In exact mode the logits are, up to rounding, those stored at export."""
    stored = [golden.int8 for golden in read_bundle(architectures.bundle(tmp_path_factory, "bert")).golden]
    np.testing.assert_allclose(np.array(bert["shown"]["logits"]), np.array(stored), atol=1e-2)


def test_a_model_that_cannot_be_exact_is_refused_and_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    """ALBERT, whose shared weights onnxruntime cannot make exact, is refused on such a CPU, shown or hidden."""
    found = emulated(architectures.bundle(tmp_path_factory, "albert"))
    for how in ("hidden", "shown"):
        assert "this model allows no exact int8 arithmetic" in found[how]["error"]


def test_numbers_of_pairs_pass_in_exact_mode(tmp_path: Path) -> None:
    """The golden check of a ranker goes by the range of its numbers: saturated ones fail, and exact ones pass."""
    checkpoint = architectures.write_checkpoint(tmp_path / "ranker", "bert", labels=("LABEL_0",), problem_type=None)
    assert architectures.run_export(checkpoint, tmp_path / "bundle", "--text-pair") == 0
    found = emulated(tmp_path / "bundle")
    assert "golden check failed" in found["inexact"]["error"]
    for how in ("hidden", "shown"):
        assert found[how]["outcome"] == "passed", how
    stored = [golden.int8 for golden in read_bundle(tmp_path / "bundle").golden]
    np.testing.assert_allclose(np.array(found["shown"]["logits"]), np.array(stored), atol=1e-2)


@pytest.mark.parametrize("cpu", ["Haswell", "Nehalem"])  # AVX2, and the least that is compiled for
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_native_operators_of_older_cpus(architecture: str, cpu: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kernels compiled for lesser instructions give, up to rounding, the logits without the library."""
    if inferer.native.library() is None:
        pytest.skip("inferer/native/operators.so is not built, as no compiler was found")
    bundle = architectures.bundle(tmp_path_factory, architecture)
    found = emulated(bundle, cpu)["hidden"]
    assert (found["native"], found["outcome"]) == (True, "passed")
    stored = [golden.int8 for golden in read_bundle(bundle).golden]
    np.testing.assert_allclose(np.array(found["logits"]), np.array(stored), atol=1e-2)
