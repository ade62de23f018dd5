"""What is done to the inputs of products so that one scale a token loses less, and taken back by weights and biases.

Each channel is shifted so that its mean is near zero: a channel that is far off on one side no longer sets every
token's scale (the shifting of Outlier Suppression+, Wei et al., arXiv 2304.09145). Then it is divided by a power of
how far it reaches: a channel that reaches far takes fewer steps from the others (SmoothQuant, Xiao et al., arXiv
2211.10438). Both are exact algebra, so that how good the figures of the channels are decides how much int8 loses,
and never what the graph computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.layers import Layer
from export.probe import Channels

# Of a channel's reach over the middle one's, and the least that is taken for that, so that weights do not vanish.
# Where the scores of three trained models changed least, with little difference around it (docs/log.md).
_ATTENTION_POWER = 0.75
_FEED_FORWARD_POWER = 0.3
_LEAST_REACH = 0.2


@dataclass(frozen=True)
class Change:
    """How what a layer reads, x, differs from what the exported one reads: x = (that + shift) / divisor; [width]."""

    shift: np.ndarray
    divisor: np.ndarray


def changes_for(layers: Sequence[Layer], channels: Mapping[str, Channels]) -> dict[str, Change]:
    """Return the change of what the products read, by the tensor's name, but for the first layer's input.

    No normalization of a layer is before that one. Weights that several layers share (ALBERT's) are not multiplied,
    as each layer would need its own.
    """
    reading = [(layer.x, (layer.query, layer.key, layer.value), _ATTENTION_POWER) for layer in layers[1:]]
    reading += [(layer.inner.x, (layer.inner,), _FEED_FORWARD_POWER) for layer in layers]
    uses = Counter(x.weight for layer in layers for x in (layer.query, layer.key, layer.value, layer.inner))
    changes = {}
    for name, linears, power in reading:
        seen = channels[name]
        shared = any(uses[linear.weight] > 1 for linear in linears)
        changes[name] = shift_only(-seen.mean) if shared else Change(-seen.mean, _divisor(seen.reach, power))
    return changes


def shift_only(shift: np.ndarray) -> Change:
    """Return the change that adds `shift`, [width], and divides by nothing."""
    return Change(shift, np.ones_like(shift))


def _divisor(reach: np.ndarray, power: float) -> np.ndarray:
    """Return what to divide channels by that reach so far, [width]; ones where that says nothing."""
    middle = np.median(reach)
    if not (np.isfinite(reach).all() and middle > 0):
        return np.ones_like(reach)
    return np.maximum(reach / middle, _LEAST_REACH) ** power
