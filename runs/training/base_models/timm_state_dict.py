"""Weights of a timm architecture as a plain state dict (.pth), perhaps with the names of another code base.

They are matched to timm's model by order and shape, and the result is tried with a real forward pass: a
wrong match would give a model that runs and knows nothing. Loaded with `weights_only`, so that no
pickle can run code; still, only starters may have this format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from runs.training.base_models import file_of
from runs.training.events import TrainingFailure
from runs.training.spec import ModelRef

COUNTER = "num_batches_tracked"


def materialise(ref: ModelRef, target: Path) -> None:
    """Write a folder that AutoModelForImageClassification loads, image processor included."""
    if ref.source != "starter":
        raise TrainingFailure(
            "model_unavailable",
            "State dicts of other than starter models are not loaded.",
            "Convert the model to safetensors first.",
        )
    import timm
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    given = torch.load(file_of(ref), map_location="cpu", weights_only=True)
    model = timm.create_model(ref.architecture, pretrained=False)
    model.load_state_dict(matched(given, model.state_dict(), ref))
    check(model.eval(), ref)
    config = TimmWrapperConfig.from_dict(
        {
            "architecture": ref.architecture,
            "num_classes": model.num_classes,
            "num_features": model.num_features,
            "pretrained_cfg": _plain(model.pretrained_cfg),
        }
    )
    wrapper = TimmWrapperForImageClassification(config)
    wrapper.timm_model.load_state_dict(model.state_dict())
    wrapper.save_pretrained(target)


def matched(
    given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], ref: ModelRef
) -> dict[str, torch.Tensor]:
    """The given tensors under timm's names, in order; raises TrainingFailure where the shapes differ."""
    tensors = [tensor for name, tensor in given.items() if not name.endswith(COUNTER)]
    names = [name for name in wanted if not name.endswith(COUNTER)]
    if [tensor.shape for tensor in tensors] != [wanted[name].shape for name in names]:
        raise TrainingFailure(
            "model_unavailable",
            f"The weights of {ref.name!r} are not those of {ref.architecture}: "
            f"{len(tensors)} tensors where {len(names)} of certain shapes are expected.",
            "Install the model's package again.",
        )
    counters = {name: tensor for name, tensor in wanted.items() if name.endswith(COUNTER)}
    return {**dict(zip(names, tensors, strict=True)), **counters}


def check(model: Any, ref: ModelRef) -> None:
    """Try the model: each batch norm must be fed with about the statistics it remembers.

    Trained batch norms hold the mean and variance of what reached them. If the tensors were matched
    wrongly, what reaches them is far off.
    """
    off: list[float] = []

    def compare(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        mean = inputs[0].mean(dim=(0, 2, 3))
        off.append(
            float(((mean - module.running_mean).abs() / (module.running_var + module.eps).sqrt()).median())
        )

    hooks = [
        module.register_forward_pre_hook(compare)
        for module in model.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    generator = torch.Generator().manual_seed(0)
    # Smooth random pictures: coarse noise, enlarged.
    coarse = torch.randn(4, 3, 8, 8, generator=generator)
    size = int(model.pretrained_cfg["input_size"][-1])
    pictures = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    with torch.inference_mode():
        logits = model(pictures)
    for hook in hooks:
        hook.remove()
    typical = sorted(off)[len(off) // 2] if off else 0.0
    if not torch.isfinite(logits).all() or typical > 3.0:
        raise TrainingFailure(
            "model_unavailable",
            f"The weights of {ref.name!r} do not fit {ref.architecture}: a trial run gives nonsense.",
            "Install the model's package again.",
        )


def _plain(pretrained: Any) -> dict[str, Any]:
    """timm's configuration of the input, as JSON can carry it."""
    kept = (
        "input_size",
        "fixed_input_size",
        "interpolation",
        "crop_pct",
        "crop_mode",
        "mean",
        "std",
        "pool_size",
    )
    return {name: pretrained[name] for name in kept if pretrained.get(name) is not None}
