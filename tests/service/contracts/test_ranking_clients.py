"""Clients of rerankers and of zero-shot classification, unmodified, in environments of their own, on real gunicorn."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.export.checkpoints.environments import python_with
from tests.support.server import Server, run_to_end, serving

pytestmark = pytest.mark.slow

QUERY, DOCUMENTS = "good", ("bad", "good good", "odd")  # 1 of the query, and -2, 4 and 1
BEST = [[1, 1 / (1 + math.exp(-5))], [2, 1 / (1 + math.exp(-2))], [0, 1 / (1 + math.exp(1))]]

# Prints the ranking by each client: place and score, best first.
RANKERS = """
import asyncio, json, os, sys
import cohere, litellm
from tei_client import HttpClient

url, query, documents = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
found = {}
for name, kind in (("v1", cohere.Client), ("v2", cohere.ClientV2)):
    reply = kind(api_key="key", base_url=url).rerank(model="ranker", query=query, documents=documents, top_n=3)
    found["cohere " + name] = [[one.index, one.relevance_score] for one in reply.results]
for model, base in (("cohere/ranker", url + "/v2/rerank"), ("hosted_vllm/ranker", url), ("huggingface/ranker", url)):
    reply = litellm.rerank(model=model, query=query, documents=documents, api_base=base, api_key="key")
    found["litellm " + model] = [[one["index"], one["relevance_score"]] for one in reply.results]
ranks = HttpClient(url).rerank(query=query, texts=documents, truncate=True, return_text=True).ranks
found["tei-client"] = [[one.index, one.score] for one in ranks]
print(json.dumps(found))
"""
LANGCHAIN = """
import json, sys
from infinity_client.client import Client
from langchain_cohere import CohereRerank
from langchain_community.document_compressors import InfinityRerank
from langchain_core.documents import Document

url, query, documents = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
texts = [Document(page_content=text, metadata={"place": place}) for place, text in enumerate(documents)]
found = {}
for name, ranker in (
    ("cohere", CohereRerank(model="ranker", cohere_api_key="key", base_url=url)),
    ("infinity", InfinityRerank(model="ranker", client=Client(base_url=url))),
):
    ranked = ranker.compress_documents(texts, query)
    found["langchain " + name] = [[one.metadata["place"], one.metadata["relevance_score"]] for one in ranked]
print(json.dumps(found))
"""
LLAMA_INDEX = """
import json, sys
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

url, query, documents = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
nodes = [NodeWithScore(node=TextNode(text=text, id_=str(place)), score=0) for place, text in enumerate(documents)]
ranked = TextEmbeddingInference(base_url=url).postprocess_nodes(nodes, query_str=query)
print(json.dumps({"llama-index": [[int(one.node.node_id), one.score] for one in ranked]}))
"""
ZERO_SHOT = """
import json, sys
from huggingface_hub import InferenceClient

client = InferenceClient(provider="hf-inference", model=sys.argv[1])
asked = {"candidate_labels": ["bad", "good"], "hypothesis_template": "{}"}
several = client.zero_shot_classification("good", multi_label=True, **asked)
one = client.zero_shot_classification("good", **asked)
print(json.dumps([[[each.label, each.score] for each in found] for found in (one, several)]))
"""


@pytest.fixture(scope="module")
def ranker(rank_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that ranks."""
    with serving(rank_bundle, tmp_path_factory.mktemp("ranker") / "log", INFERER_MODEL_NAME="ranker") as running:
        yield running


@pytest.mark.parametrize(
    ("program", "packages", "clients"),
    [
        (RANKERS, ("cohere==7.3.1", "litellm==1.110.2", "tei-client==0.2.4"), 6),
        (LANGCHAIN, ("langchain-cohere==0.6.0", "langchain-community==0.4.2", "infinity-client==0.0.78"), 2),
        (LLAMA_INDEX, ("llama-index-postprocessor-tei-rerank==0.6.0",), 1),
    ],
    ids=["clients", "langchain", "llama-index"],
)
def test_clients_of_rerankers(
    program: str, packages: tuple[str, ...], clients: int, ranker: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cohere's client, LiteLLM, tei-client, and the rerankers of LangChain and LlamaIndex get the ranking."""
    python = python_with(tmp_path_factory.getbasetemp(), *packages)
    given = (f"http://127.0.0.1:{ranker.port}", QUERY, json.dumps(DOCUMENTS))
    done = run_to_end(python, "-c", program, *given, timeout_s=180, LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == clients
    for client, ranking in found.items():
        assert [place for place, _ in ranking] == [place for place, _ in BEST], client
        assert [score for _, score in ranking] == pytest.approx([score for _, score in BEST], abs=1e-6), client


@pytest.mark.parametrize("version", ["0.36.2", "2.4.0"])
def test_zero_shot_by_the_inference_client(
    version: str, inference_bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hugging Face's client, an old version and the newest, reads the labels and scores of zero-shot classification."""
    python = python_with(tmp_path_factory.getbasetemp(), f"huggingface_hub=={version}")
    with serving(inference_bundle, tmp_path / "log") as server:
        url = f"http://127.0.0.1:{server.port}/"
        done = run_to_end(python, "-c", ZERO_SHOT, url, timeout_s=120)
    assert done.returncode == 0, done.stderr[-3000:]
    one, several = json.loads(done.stdout.splitlines()[-1])
    assert [label for label, _ in one] == [label for label, _ in several] == ["good", "bad"]
    assert one[0][1] == pytest.approx(1 / (1 + math.exp(-4)))
    assert several[1][1] == pytest.approx(1 / (1 + math.exp(2)))
