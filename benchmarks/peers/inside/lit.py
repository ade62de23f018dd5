"""LitServe with batches of up to 32 texts that wait for 5 ms at most.

WORKERS, PORT, and the variables of batched.py.
"""

from __future__ import annotations

import os
from typing import Any

import litserve
from batched import Model


class Classifier(litserve.LitAPI):
    """The API of one worker."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the model."""
        self.model = Model()

    def decode_request(self, request: dict[str, str]) -> str:
        """Return the text of a request."""
        return request["text"]

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """Return the answers to a batch."""
        return self.model.answers(texts)

    def encode_response(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer as it is."""
        return answer


if __name__ == "__main__":
    api = Classifier(max_batch_size=32, batch_timeout=0.005, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False)
