"""Gives stock classification models a better feature than their own pooling, without leaving the architecture.

BERT and RoBERTa classify the first token through a dense layer with tanh that only fine-tuning makes
useful; for sentence encoders the mean over all tokens is much better (SST-2, MiniLM, 3,000 rows:
0.80 against 0.76 for the first token and 0.63 through the pretrained pooler). One more encoder layer
computes that mean exactly: queries and keys of zero make attention uniform over the unmasked tokens,
values are passed on as they are, and a large factor before the layer norm drowns the residual. The
pooler becomes a small multiple of the identity, in whose range tanh is nearly linear.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

MEAN_FACTOR = 1e3  # how much louder the mean is than the residual it is added to
POOLER_SCALE = 0.05  # layer-normed features rarely exceed ±4, so tanh sees ±0.2


def use_mean_pooling(model: Any) -> str:
    """Change the model in place where its architecture allows; returns what its features now are, for people."""
    if getattr(model.config, "classifier_pooling", None) is not None:  # ModernBERT has it as an option
        model.config.classifier_pooling = "mean"
        return "the mean over all tokens"
    if hasattr(model, "bert") and getattr(model.bert, "pooler", None) is not None:
        _append_mean_layer(model.config, model.bert.encoder)
        _nearly_identity(model.bert.pooler.dense)
        return "the mean over all tokens"
    if hasattr(model, "roberta") and hasattr(getattr(model, "classifier", None), "dense"):
        _append_mean_layer(model.config, model.roberta.encoder)
        _nearly_identity(model.classifier.dense)
        return "the mean over all tokens"
    return "what the architecture's own pooling gives"


def _append_mean_layer(config: Any, encoder: Any) -> None:
    layer = copy.deepcopy(encoder.layer[-1])
    eye = torch.eye(config.hidden_size)
    attention = layer.attention.self
    with torch.no_grad():
        for linear in (attention.query, attention.key, layer.output.dense):
            linear.weight.zero_()
            linear.bias.zero_()
        attention.value.weight.copy_(eye)
        attention.value.bias.zero_()
        layer.attention.output.dense.weight.copy_(MEAN_FACTOR * eye)
        layer.attention.output.dense.bias.zero_()
        for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1.0)
            norm.bias.zero_()
    if hasattr(attention, "layer_idx"):
        attention.layer_idx = len(encoder.layer)
    encoder.layer.append(layer)
    config.num_hidden_layers += 1


def _nearly_identity(dense: nn.Linear) -> None:
    with torch.no_grad():
        dense.weight.copy_(POOLER_SCALE * torch.eye(dense.out_features, dense.in_features))
        dense.bias.zero_()


@contextmanager
def without_idle_work(model: nn.Module) -> Iterator[None]:
    """In it the feed-forward part of the mean layer, which adds exactly nothing, is not computed.

    It is most of what a layer costs. Nothing changes in what the model gives or, afterwards, is.
    """
    idle = [
        layer
        for layer in model.modules()
        if isinstance(dense := getattr(getattr(layer, "output", None), "dense", None), nn.Linear)
        and hasattr(layer, "intermediate")
        and not (dense.weight.any() or dense.bias.any())
    ]
    kept = [(layer.intermediate, layer.output.dense) for layer in idle]
    for layer in idle:
        layer.intermediate, layer.output.dense = nn.Identity(), _Zeros()
    try:
        yield
    finally:
        for layer, (intermediate, dense) in zip(idle, kept, strict=True):
            layer.intermediate, layer.output.dense = intermediate, dense


class _Zeros(nn.Module):  # type: ignore[misc]
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden)
