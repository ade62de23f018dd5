"""CPU quota, affinity and instruction flags, read from files laid out like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferer import cpu


def lay(root: Path, files: dict[str, str]) -> Path:
    """Write `files` (path -> content) under `root`."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "own", "quota"),
    [
        ({}, "", None),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, "0::/a/b", 2.0),
        ({"a/b/cpu.max": "50000 100000", "a/cpu.max": "200000 100000"}, "0::/a/b", 0.5),
        ({"a/cpu.max": "50000 100000"}, "0::/other", None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/", None),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/", 3.0),
        ({"cpu,cpuacct/x/cpu.cfs_quota_us": "70000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
         "4:cpu,cpuacct:/x", 0.7),
        ({"a/cpu.max": "100000 100000"}, "4:memory:/a\n0::/a", 1.0),
    ],
)  # fmt: skip
def test_the_smallest_quota_over_the_process_is_found(
    tmp_path: Path, files: dict[str, str], own: str, quota: float | None
) -> None:
    """The smallest cgroup quota, v1 or v2, of the process's group or a group above it is found."""
    root = lay(tmp_path / "cgroup", files)
    proc = lay(tmp_path / "proc", {"self/cgroup": own})
    assert cpu.cpu_quota(root, proc) == quota


@pytest.mark.parametrize(("quota", "cpus"), [(None, 6), (0.5, 1), (1.9, 1), (2.0, 2), (64.0, 6)])
def test_threads_follow_quota_and_affinity(monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: int) -> None:
    """The number of CPUs is within the quota, rounded down, and the affinity mask, and at least 1."""
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _pid: set(range(6)), raising=False)
    monkeypatch.setattr(cpu, "cpu_quota", lambda: quota)
    assert cpu.available_cpus() == cpus


def test_instruction_flags_are_read_in_a_fixed_order(tmp_path: Path) -> None:
    """Only the flags that decide int8 kernels are read, in a fixed order."""
    lay(
        tmp_path,
        {"x86": "processor : 0\nflags\t\t: fpu avx512_vnni sse avx2\n", "arm": "Features : fp asimd asimddp\n"},
    )
    assert cpu.instruction_flags(tmp_path / "x86") == ("avx2", "avx512_vnni")
    assert cpu.instruction_flags(tmp_path / "arm") == ("asimd", "asimddp")
    assert cpu.instruction_flags(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("machine", "flags", "may"),
    [
        ("x86_64", "avx2 fma", True),
        ("x86_64", "avx2 avx512f avx512bw", True),
        ("AMD64", "", True),
        ("x86_64", "avx2 avx512f avx512_vnni", False),
        ("x86_64", "avx2 avx_vnni", False),
        ("x86_64", "avx2 amx_int8", False),
        ("aarch64", "", False),
    ],
)
def test_int8_may_saturate_on_x86_without_vnni_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, may: bool
) -> None:
    """Int8 products may saturate on x86-64 whose flags show none of avx512_vnni, avx_vnni and amx_int8."""
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    lay(tmp_path, {"cpuinfo": f"flags : {flags}\n"})
    assert cpu.int8_may_saturate(tmp_path / "cpuinfo") is may
