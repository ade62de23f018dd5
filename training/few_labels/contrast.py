"""The contrastive loss of a batch of text embeddings: texts of one label near each other, others apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TEMPERATURE = 0.1  # that of Khosla et al.


def contrastive(embeddings: Tensor, targets: Tensor, _groups: Tensor | None = None) -> Tensor:
    """Return the supervised contrastive loss of `embeddings` [texts, width] by all pairs of the batch.

    targets: class ids [texts]. Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2. Texts without
    a partner in the batch do not count.
    """
    unit = functional.normalize(embeddings.float(), dim=1)
    oneself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    partners = (targets[:, None] == targets[None, :]) & ~oneself
    with torch.autocast(unit.device.type, enabled=False):  # bf16 has too few digits for a temperature of 0.1
        similar = (unit @ unit.T / _TEMPERATURE).masked_fill(oneself, -torch.inf)
    shares = similar - similar.logsumexp(dim=1, keepdim=True)
    counts = partners.sum(dim=1)
    if not counts.any():
        return unit.sum() * 0
    by_text = -shares.where(partners, 0).sum(dim=1)[counts > 0] / counts[counts > 0]
    return by_text.mean()
