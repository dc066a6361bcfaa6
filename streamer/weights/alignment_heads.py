"""Alignment heads of the published models: the cross-attention heads that follow the speech."""

from __future__ import annotations

import logging

from model import PUBLISHED_DIMENSIONS, ModelDimensions, decode_alignment_heads

__all__ = [
    "ENCODED_ALIGNMENT_HEADS",
    "AlignmentHeads",
    "alignment_lag_s",
    "heads_within",
    "published_alignment_heads",
]

AlignmentHeads = tuple[tuple[int, int], ...]
"""(layer, head) pairs of the decoder, in ascending order."""

log = logging.getLogger(__name__)

ENCODED_ALIGNMENT_HEADS: dict[str, bytes] = {
    "tiny.en": b"ABzY8J1N>@0{>%R00Bk>$p{7v037`oCl~+#00",
    "tiny": b"ABzY8bu8Lr0{>%RKn9Fp%m@SkK7Kt=7ytkO",
    "base.en": b"ABzY8;40c<0{>%RzzG;p*o+Vo09|#PsxSZm00",
    "base": b"ABzY8KQ!870{>%RzyTQH3`Q^yNP!>##QT-<FaQ7m",
    "small.en": b"ABzY8>?_)10{>%RpeA61k&I|OI3I$65C{;;pbCHh0B{qLQ;+}v00",
    "small": b"ABzY8DmU6=0{>%Rpa?J`kvJ6qF(V^F86#Xh7JUGMK}P<N0000",
    "medium.en": b"ABzY8usPae0{>%R7<zz_OvQ{)4kMa0BMw6u5rT}kRKX;$NfYBv00*Hl@qhsU00",
    "medium": b"ABzY8B0Jh+0{>%R7}kK1fFL7w6%<-Pf*t^=N)Qr&0RR9",
    "large-v1": b"ABzY8r9j$a0{>%R7#4sLmoOs{s)o3~84-RPdcFk!JR<kSfC2yj",
    "large-v2": b"ABzY8zd+h!0{>%R7=D0pU<_bnWW*tkYAhobTNnu$jnkEkXqp)j;w1Tzk)UH3X%SZd&fFZ2fC2yj",
    "large-v3": b"ABzY8gWO1E0{>%R7(9S+Kn!D~%ngiGaR?*L!iJG9p-nab0JQ=-{D1-g00",
    "large-v3-turbo": b"ABzY8j^C+e0{>%RARaKHP%t(lGR*)0g!tONPyhe`",
}
"""
Base85 of gzip of one bool per (layer, head), row by row.

Source: OpenAI's `whisper` package, MIT licence, which publishes these next to the weights.
"""

ALIGNMENT_LAG_S = {"tiny.en": 0.1, "base": -0.04}
"""Seconds by which a model's published heads reach a word later than it begins, measured with forced alignments of
hundreds of words (docs/experiments.md). Each head has its own lag, so each model has; the others are not measured."""


def published_alignment_heads(name: str, dims: ModelDimensions) -> AlignmentHeads | None:
    """Heads of a published model; None for other names, and for dimensions other than the published ones."""
    if name not in ENCODED_ALIGNMENT_HEADS or PUBLISHED_DIMENSIONS[name] != dims:
        return None
    return decode_alignment_heads(ENCODED_ALIGNMENT_HEADS[name], dims.n_text_layer, dims.n_text_head)


def alignment_lag_s(dims: ModelDimensions, heads: AlignmentHeads) -> float:
    """Seconds by which these heads reach a word later than it begins; 0 if not measured."""
    return next(
        (lag_s for name, lag_s in ALIGNMENT_LAG_S.items() if published_alignment_heads(name, dims) == heads), 0.0
    )


def heads_within(label: str, heads: AlignmentHeads | None, dims: ModelDimensions) -> AlignmentHeads | None:
    """
    The heads that weights come with; None, with a warning, if one is outside their decoder.

    Distilled models have fewer layers than their teacher, and some are published with its heads.

    Args:
        label: File name, for the warning.
        heads: As read; None if there are none.
        dims: Of the network.
    """
    for layer, head in heads or ():
        if not (0 <= layer < dims.n_text_layer and 0 <= head < dims.n_text_head):
            log.warning(
                "%s: alignment head (%d, %d) is outside the decoder of %d layers and %d heads, so its own heads are "
                "left out: word times may be less exact",
                *(label, layer, head, dims.n_text_layer, dims.n_text_head),
            )
            return None
    return heads
