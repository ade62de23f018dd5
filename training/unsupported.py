"""The architectures that can be trained but not exported, by their names in config.json, and the reason of each."""

from __future__ import annotations

_READS_PADDING = "reads padding, so that a text's scores depend on the longest text of its batch"
_FIXED = "splits a text by its length, which one graph for texts of every length cannot do"
_ENDS = "finds the ends of all texts of a batch at once, so that a text with an end token in it would change the others"
UNSUPPORTED = {
    **dict.fromkeys(
        ("bart", "mbart", "plbart", "mvp", "bigbird_pegasus", "t5", "mt5", "umt5"), f"its classifier {_ENDS}"
    ),
    "fnet": f"it has no attention mask and {_READS_PADDING}",
    "convbert": f"its convolution {_READS_PADDING}",
    "yoso": f"its attention {_READS_PADDING}",
    "canine": f"its convolution {_READS_PADDING}",
    "funnel": f"its pooling {_FIXED}",
    "longformer": f"it {_FIXED}",
    "nystromformer": "it needs every text padded to a fixed length, and a server pads to the longest text of a batch",
    "reformer": f"it {_FIXED}",
    "perceiver": "it reads bytes by a tokenizer that has no fast version, which a server needs",
    "xlnet": "it reads the last token of a batch, so its texts are padded on the left, and a server pads on the right",
    "layoutlm": "it reads the place of each word on a page, which a text alone does not have",
    "layoutlmv2": "it reads the place of each word on a page, which a text alone does not have",
    "layoutlmv3": "it reads the place of each word on a page, which a text alone does not have",
    "lilt": "it reads the place of each word on a page, which a text alone does not have",
    "markuplm": "it reads the place of each word in a page's markup, which a text alone does not have",
    "tapas": "it reads tables",
}
