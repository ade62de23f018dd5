"""The contracts that share a path, and the choice among them by a body's keys."""

from __future__ import annotations

from collections.abc import Sequence

from service.contracts import hugging_face, kserve_v1, own, sagemaker, text_embeddings
from service.contracts.base import Contract

# `POST /predict`. A body with keys of several contracts belongs to the first of them.
SHARED = (own.CONTRACT, kserve_v1.CONTRACT, hugging_face.CONTRACT, text_embeddings.CONTRACT)
# `POST /invocations`
SAGEMAKER = (*SHARED, sagemaker.PLAIN_TEXT, sagemaker.CSV)


def choose(contracts: Sequence[Contract], content_type: str, body: object) -> Contract:
    """Return the contract of `body` among those of its content type: the first with a key in it, else the first."""
    candidates = [contract for contract in contracts if contract.content_type == content_type]
    if isinstance(body, dict):
        for contract in candidates:
            if any(key in body for key in contract.keys):
                return contract
    return candidates[0]
