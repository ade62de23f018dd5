"""The floating point format of matrix products in training."""

from __future__ import annotations

from pathlib import Path

import torch

from training.errors import TrainingError
from training.recipe.recipe import BF16, FP32

# CPUs that multiply bfloat16 themselves; on others torch converts, and is slower than in fp32.
_FLAGS = ("amx_bf16", "avx512_bf16")


def uses_bf16(wanted: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether to train in bfloat16 (autocast): as wanted, or with "auto" if the GPU or CPU supports it."""
    if wanted == FP32:
        return False
    if torch.cuda.is_available():
        has = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        if wanted == BF16 and not has:
            raise TrainingError('precision is "bf16", which this GPU does not support; expected "fp32" or "auto"')
        return has
    if wanted == BF16:  # a CPU without it converts, slowly
        return True
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return any(flag in found.split() for flag in (*_FLAGS, "bf16"))
