"""Ranking of documents by their relevance to a query: text-embeddings-inference, and Cohere, Jina and vLLM."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from inferer.bundle.manifest import NONE
from inferer.model import ModelInferer
from inferer.options import CallOptions
from inferer.scoring import Prediction
from service.contracts.base import Contract, PredictCall
from service.contracts.fields import Text, Truncation, limited
from service.contracts.text_embeddings import ERRORS, RIGHT, Direction, truncation_of
from service.contracts.vllm import VllmUsage
from service.errors import ServiceError, wrong_field
from service.state import State, current_state

_Documents = Annotated[list[Text], limited("texts", "the documents", minItems=1)]


class TeiRerankRequest(msgspec.Struct):
    """A query and texts. Unknown fields are ignored."""

    query: Text
    texts: _Documents
    truncate: Annotated[bool, Meta(description="false refuses a long pair; null follows the bundle")] | None = None
    truncation_direction: Direction = RIGHT
    raw_scores: Annotated[bool, Meta(description="return the model's logits in place of scores")] = False
    return_text: bool = False


class TeiRank(msgspec.Struct):
    """A text's place in the request, and its score."""

    index: int
    score: float
    text: str | UnsetType = UNSET


class Document(msgspec.Struct):
    """A document in an object. Unknown fields are ignored."""

    text: Text


class RerankRequest(msgspec.Struct):
    """A query and documents. Unknown fields are ignored."""

    query: Text
    documents: Annotated[list[Text | Document], limited("texts", "texts, or objects with a text", minItems=1)]
    model: Annotated[str, Meta(description="the model's name")] | None = None
    top_n: Annotated[int, Meta(ge=1, description="the number of results, best first")] | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Annotated[int, limited("max_tokens", "at least the model's own limit")] | None = None
    truncation: Truncation | None = None
    raw_scores: Annotated[bool, Meta(description="return the model's logits in place of scores")] = False


class RankedDocument(msgspec.Struct):
    """A document's place in the request, and its score."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class RerankUsage(msgspec.Struct):
    """The tokens of all pairs."""

    total_tokens: int
    prompt_tokens: int


class RerankReply(msgspec.Struct):
    """The documents, best first. meta: for Cohere's clients."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: RerankUsage
    meta: dict[str, Any]


class ScoreRequest(msgspec.Struct):
    """Texts to compare: one with each of several, or as many on both sides. Unknown fields are ignored."""

    text_1: Annotated[Text | list[Text], limited("input", "a text, or a list of texts")]
    text_2: Annotated[Text | list[Text], limited("input", "a text, or a list of texts")]
    model: Annotated[str, Meta(description="the model's name")] | None = None


class PairScore(msgspec.Struct):
    """The score of a pair."""

    index: int
    score: float
    object: str = "score"


class ScoreReply(msgspec.Struct):
    """The scores of the pairs, in order."""

    id: str
    object: str
    created: int
    model: str
    data: list[PairScore]
    usage: VllmUsage


def is_reranker(model: ModelInferer) -> bool:
    """Return whether the model gives a pair of texts one number."""
    return model.text_pair and len(model.labels) == 1


def _check_reranker() -> None:
    """Raise ServiceError (Backend) unless the model ranks."""
    if not is_reranker(current_state().inferer):
        raise ServiceError("Backend", "model is not a re-ranker model")


def _pairs(query: str, documents: Sequence[str], fields: Sequence[str], options: CallOptions, of: str) -> PredictCall:
    return PredictCall(
        [(query, document) for document in documents], [("query", field) for field in fields], options, texts_field=of
    )


def _best_first(predictions: Sequence[Prediction], most: int | None = None) -> list[tuple[int, float]]:
    """Return the places and values of the best predictions; equal ones keep the request's order."""
    values = [next(iter((one.scores if one.activated is None else one.activated).values())) for one in predictions]
    return sorted(enumerate(values), key=lambda one: -one[1])[:most]


def _read_tei(body: TeiRerankRequest) -> PredictCall:
    if not body.texts:
        raise ServiceError("Empty", "`texts` cannot be empty")
    _check_reranker()
    truncation = truncation_of(body.truncate, body.truncation_direction)
    options = CallOptions(truncation=truncation, activation=NONE if body.raw_scores else None)
    return _pairs(body.query, body.texts, [f"texts[{i}]" for i in range(len(body.texts))], options, "texts")


def _render_tei(body: TeiRerankRequest, predictions: Sequence[Prediction], _: State) -> list[TeiRank]:
    return [
        TeiRank(index, score, body.texts[index] if body.return_text else UNSET)
        for index, score in _best_first(predictions)
    ]


def _read(body: RerankRequest) -> PredictCall:
    if body.model is not None:
        current_state().check_name(body.model)
    _check_reranker()
    longest = current_state().inferer.max_length
    if body.max_tokens_per_doc is not None and body.max_tokens_per_doc < longest:
        expected = f"at least {longest}, the tokens that the model reads of a pair"
        raise wrong_field("max_tokens_per_doc", f"{body.max_tokens_per_doc} is not allowed; expected {expected}")
    documents = [one if isinstance(one, str) else one.text for one in body.documents]
    fields = [f"documents[{i}]{'' if isinstance(one, str) else '.text'}" for i, one in enumerate(body.documents)]
    options = CallOptions(truncation=body.truncation, activation=NONE if body.raw_scores else None)
    return _pairs(body.query, documents, fields, options, "documents")


def _render(body: RerankRequest, predictions: Sequence[Prediction], state: State) -> RerankReply:
    results = []
    for index, score in _best_first(predictions, body.top_n):
        document = body.documents[index] if body.return_documents else UNSET
        results.append(RankedDocument(index, score, Document(document) if isinstance(document, str) else document))
    tokens = sum(one.num_tokens for one in predictions)
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    name = f"rerank-{os.urandom(16).hex()}"
    return RerankReply(name, state.settings.name, results, RerankUsage(tokens, tokens), meta)


def _read_score(body: ScoreRequest) -> PredictCall:
    if body.model is not None:
        current_state().check_name(body.model)
    _check_reranker()
    sides = [[one] if isinstance(one, str) else one for one in (body.text_1, body.text_2)]
    first, second = sides
    if len(first) == 1:
        first = first * len(second)
    if len(first) != len(second) or not first:
        counts = f"{len(sides[0])} and {len(sides[1])} texts"
        raise wrong_field("text_2", f"{counts} cannot be paired; expected one text in text_1, or as many as in text_2")
    names = [
        [
            f"text_{number}" if isinstance(one, str) else f"text_{number}[{i if len(one) > 1 else 0}]"
            for i in range(len(first))
        ]
        for number, one in ((1, body.text_1), (2, body.text_2))
    ]
    return PredictCall(list(zip(first, second, strict=True)), list(zip(*names, strict=True)), texts_field="text_2")


def _render_score(_: ScoreRequest, predictions: Sequence[Prediction], state: State) -> ScoreReply:
    tokens = sum(one.num_tokens for one in predictions)
    data = [PairScore(index, one.score) for index, one in enumerate(predictions)]
    called = f"score-{os.urandom(16).hex()}"
    return ScoreReply(called, "list", int(time.time()), state.settings.name, data, VllmUsage(tokens, tokens))


_QUERY, _LIKE, _NOT = "which one is good", "I like you", "not for me"
TEI = Contract(
    "text-embeddings-inference",
    TeiRerankRequest,
    list[TeiRank],
    _read_tei,
    _render_tei,
    keys=("texts",),
    pair_examples={
        "texts": {"query": _QUERY, "texts": [_LIKE, _NOT]},
        "logits, and the texts": {"query": _QUERY, "texts": [_LIKE, _NOT], "raw_scores": True, "return_text": True},
        "the end of long texts": {
            "query": _QUERY,
            "texts": [_LIKE],
            "truncate": True,
            "truncation_direction": "left",
        },
    },
    wrong_pair_examples={"an empty text": {"query": _QUERY, "texts": [""]}},
    errors=ERRORS,
    fits=is_reranker,
)
CONTRACT = Contract(
    "Cohere, Jina and vLLM",
    RerankRequest,
    RerankReply,
    _read,
    _render,
    keys=("documents",),
    pair_examples={
        "documents": {"query": _QUERY, "documents": [_LIKE, _NOT]},
        "the best one alone": {"query": _QUERY, "documents": [_LIKE, _NOT], "top_n": 1, "return_documents": True},
        "objects": {"query": _QUERY, "documents": [{"text": _LIKE}, {"text": _NOT}], "truncation": "only_second"},
    },
    wrong_pair_examples={
        "no results": {"query": _QUERY, "documents": [_LIKE], "top_n": 0},
        "an object without a text": {"query": _QUERY, "documents": [{"title": _LIKE}]},
    },
    fits=is_reranker,
)
SCORE = Contract(
    "vLLM",
    ScoreRequest,
    ScoreReply,
    _read_score,
    _render_score,
    keys=("text_1",),
    pair_examples={
        "one pair": {"text_1": _QUERY, "text_2": _LIKE},
        "one with each of several": {"text_1": _QUERY, "text_2": [_LIKE, _NOT]},
        "as many on both sides": {"text_1": [_QUERY, _QUERY], "text_2": [_LIKE, _NOT]},
    },
    wrong_pair_examples={"other numbers of texts": {"text_1": [_QUERY, _QUERY], "text_2": [_LIKE]}},
    fits=is_reranker,
)
SHARED = (TEI, CONTRACT)
