"""What a model's config.json tells: its kind, its size of input, and whether it may be used at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webapp.catalog.models import BaseModel

Kind = BaseModel.Kind

# Model types of transformers, by what they are good for.
TEXT_ENCODERS = frozenset(
    [
        "albert",
        "bert",
        "camembert",
        "convbert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "esm",
        "flaubert",
        "fnet",
        "ibert",
        "longformer",
        "luke",
        "megatron-bert",
        "mobilebert",
        "modernbert",
        "mpnet",
        "nomic_bert",
        "nystromformer",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roformer",
        "splinter",
        "squeezebert",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    ]
)
TEXT_DECODERS = frozenset(
    [
        "bloom",
        "cohere",
        "codegen",
        "falcon",
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "granite",
        "llama",
        "mistral",
        "mixtral",
        "mpt",
        "olmo",
        "olmo2",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
        "stablelm",
        "starcoder2",
    ]
)
IMAGE_ENCODERS = frozenset(
    [
        "beit",
        "bit",
        "convnext",
        "convnextv2",
        "cvt",
        "data2vec-vision",
        "deit",
        "dinat",
        "dinov2",
        "efficientnet",
        "focalnet",
        "levit",
        "mobilenet_v1",
        "mobilenet_v2",
        "mobilevit",
        "mobilevitv2",
        "poolformer",
        "pvt",
        "pvt_v2",
        "regnet",
        "resnet",
        "swiftformer",
        "swin",
        "swinv2",
        "timm_wrapper",
        "vit",
        "vit_msn",
    ]
)


LARGEST_CONFIG = 10 * 2**20  # bytes; real ones have a few thousand


class Unusable(Exception):
    """This model cannot be used here; the message says why, and what would do instead."""


@dataclass(frozen=True)
class Facts:
    """What the catalogue keeps of a config."""

    kind: str
    architecture: str
    context_length: int | None
    image_size: int | None


def read_config(path: Path) -> dict[str, Any]:
    """The object in a config.json, whoever wrote it; raises Unusable."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise Unusable(f"config.json has more than {LARGEST_CONFIG >> 20} MB: it is not a model's.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Unusable(f"config.json cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise Unusable("config.json is not a JSON object.")
    return config


def facts_of(config: dict[str, Any], file_names: list[str]) -> Facts:
    """Read a config.json beside its folder's file names; raises Unusable.

    Code that comes with a model is never run, and pickled weights are never loaded, whoever made them.
    """
    if config.get("auto_map"):
        raise Unusable(
            "This model needs code of its own, which Tuneboard does not run. Choose one without custom code."
        )
    if not any(name.endswith(".safetensors") for name in file_names):
        raise Unusable(
            "This model has no safetensors weights. Pickled weights (.bin, .pt) can hide code and are not loaded; "
            "convert them to safetensors, or choose a model that has them."
        )
    model_type = str(config.get("model_type", ""))
    timm = "architecture" in config and "model_type" not in config
    kind = Kind.OTHER
    if timm or model_type in IMAGE_ENCODERS:
        kind = Kind.IMAGE_ENCODER
    elif model_type in TEXT_ENCODERS:
        kind = Kind.TEXT_ENCODER
    elif model_type in TEXT_DECODERS:
        kind = Kind.TEXT_DECODER
    cfg = config.get("pretrained_cfg")
    sizes = cfg.get("input_size") if isinstance(cfg, dict) else None
    return Facts(
        kind=kind,
        architecture=_first_name(config.get("architectures")) or _first_name(config.get("architecture")),
        context_length=_count(config.get("max_position_embeddings")) or _count(config.get("n_positions")),
        image_size=_count(config.get("image_size"))
        or _count(sizes[-1] if isinstance(sizes, list) and sizes else None),
    )


def _first_name(value: Any) -> str:
    """A name, or the first of several, as a database can keep it."""
    first = value[0] if isinstance(value, list) and value else value
    return first.replace("\0", "").encode("utf-8", "replace").decode()[:100] if isinstance(first, str) else ""


def _count(value: Any) -> int | None:
    """A number of tokens or pixels, or None if it can be none."""
    return value if type(value) is int and 0 < value < 2**31 else None
