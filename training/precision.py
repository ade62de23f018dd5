"""Which floating point numbers the products of training are computed in."""

from __future__ import annotations

from pathlib import Path

import torch

from training.recipe import AUTO, BF16

# Where the CPU multiplies bfloat16 itself; elsewhere torch converts to and fro, and is slower than in fp32.
_FLAGS = ("amx_bf16", "avx512_bf16")


def uses_bf16(wanted: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether to train in bfloat16 (autocast): as wanted, or with "auto" where the GPU or CPU has it."""
    if wanted != AUTO:
        return wanted == BF16
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return any(flag in found.split() for flag in (*_FLAGS, "bf16"))
