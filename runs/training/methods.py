"""How much of a model is trained: all of it, its last layers, or small adapters beside it (LoRA).

Each function prepares a transformers model in place or wraps it, and says what is left to train. The
fourth method, a head on cached features, trains without gradients and stands in head.py.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from runs.training.context import Context
from runs.training.events import TrainingFailure


def prepare(model: Any, context: Context, **lora: Any) -> Any:
    """The model as the spec's method trains it; `lora` changes LoraConfig. Raises TrainingFailure where the model does not allow that."""
    match context.spec.method:
        case "full":
            pass
        case "last_layers":
            freeze_all_but_last(model, int(context.settings["last_layers"]))
        case "lora":
            model = add_lora(model, context, **lora)
        case other:
            raise TrainingFailure("bad_settings", f"The method {other!r} does not train by gradient.")
    trained, total = parameter_counts(model)
    context.message(f"{trained:,} of {total:,} weights are trained ({trained / total:.1%}).")
    return model


def parameter_counts(model: Any) -> tuple[int, int]:
    """(those that are trained, all)."""
    counts = [(item.numel(), item.requires_grad) for item in model.parameters()]
    return sum(n for n, trained in counts if trained), sum(n for n, _ in counts)


def freeze_all_but_last(model: nn.Module, layers: int) -> None:
    """Freeze what comes before the last `layers` layers; what follows them (norms, heads) is trained.

    The layers are the members of the stack that holds most of the weights. Batch norms that are frozen
    also keep their running statistics.
    """
    name, stack = layer_stack(model)
    kept = list(stack.children())[-layers:]
    first = next(iter(kept[0].parameters()), None)
    if first is None:
        raise TrainingFailure("bad_settings", f"The last {layers} layers of {name} have no weights.")
    trained = False
    for parameter in model.parameters():
        trained = trained or parameter is first
        parameter.requires_grad_(trained)
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(p.requires_grad for p in own):
            hold_in_evaluation(module)


def layer_stack(model: nn.Module) -> tuple[str, nn.Module]:
    """(name, module) of the stack of layers that holds most of the model's weights."""
    best: tuple[int, str, nn.Module] | None = None
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(list(module.children())) < 2:
            continue
        size = sum(item.numel() for item in module.parameters())
        if best is None or size > best[0]:
            best = (size, name, module)
    if best is None:
        raise TrainingFailure(
            "bad_settings",
            f"{type(model).__name__} has no stack of layers that could be split.",
            "Choose another method.",
        )
    return best[1], best[2]


def hold_in_evaluation(module: nn.Module) -> None:
    """Keep a module in evaluation mode whatever `model.train()` says."""
    module.eval()
    module.train = lambda mode=True: module


def add_lora(model: Any, context: Context, **changes: Any) -> Any:
    """Wrap with LoRA adapters on every linear layer but the head, which is trained whole."""
    from peft import LoraConfig, TaskType, get_peft_model

    chosen = context.settings
    values: dict[str, Any] = {
        "task_type": TaskType.SEQ_CLS,
        "r": chosen["lora_r"],
        "lora_alpha": chosen["lora_alpha"],
        "lora_dropout": chosen["lora_dropout"],
        "target_modules": "all-linear",
    }
    return get_peft_model(model, LoraConfig(**{**values, **changes}))
