"""The fields that contracts share: their types, and for the description what the model and this deployment allow.

What is checked by the model or by the settings has a key "x-inferer" here, in whose place service/schemas.py puts the
limits that hold.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from inferer.bundle import TRUNCATIONS

MARK = "x-inferer"


def _marked(description: str, mark: str, **schema: Any) -> Meta:
    return Meta(description=description, extra_json_schema={MARK: mark, **schema})


# A character that is no white space as Python's str.isspace sees it; `\s` is another set in each language.
SOME = r"[^\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"

Text = Annotated[str, _marked("a text, more than white space", "text", minLength=1, pattern=SOME)]
Texts = Annotated[list[Text], _marked("texts", "texts", minItems=1)]
TopK = Annotated[int, Meta(ge=1, description="how many scores, best first")]
Truncation = Annotated[
    str,
    Meta(
        description="how a long text is read; by default as the bundle says", extra_json_schema={"enum": [*TRUNCATIONS]}
    ),
]
Label = Annotated[str, _marked("a label of the model; by default the best one", "label")]
Threshold = Annotated[
    float | dict[str, float], _marked("for several labels a text: of every label, or a label's own", "threshold")
]
