"""`POST` paths for rankings: documents by their relevance to a query, and scores of pairs."""

from __future__ import annotations

from flask import Blueprint, Response

from service.contracts import rerank
from service.inference import handle
from service.openapi.view_metadata import contract_metadata

blueprint = Blueprint("rank", __name__)


@blueprint.post("/rerank")
@contract_metadata(rerank.SHARED, tag="Ranking", errors=("NotFound", "Backend"))
def ranked() -> Response:
    """Rank documents by their relevance to a query, best first.

    `texts` is the contract of text-embeddings-inference, `documents` that of Cohere, Jina and vLLM. The score of a
    document is the same in any ranking.
    """
    return handle(rerank.SHARED)


@blueprint.post("/v1/rerank")
@blueprint.post("/v2/rerank")
@contract_metadata((rerank.CONTRACT,), tag="Ranking", errors=("NotFound", "Backend"))
def ranked_documents() -> Response:
    """Rank documents by their relevance to a query, best first, as Cohere, Jina and vLLM do."""
    return handle((rerank.CONTRACT,))


@blueprint.post("/score")
@contract_metadata((rerank.SCORE,), tag="Ranking", errors=("NotFound", "Backend"))
def scores() -> Response:
    """Score pairs of texts as vLLM does: one text with each of several, or as many on both sides."""
    return handle((rerank.SCORE,))
