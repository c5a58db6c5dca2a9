"""A model folder on this host's disk, added by an admin."""

from __future__ import annotations

import json
from pathlib import Path

from django.utils.text import slugify

from webapp.catalog.configs import Unusable, facts_of
from webapp.catalog.models import BaseModel


def free_slug(name: str) -> str:
    """A slug that no model has yet."""
    base = slugify(name)[:180] or "model"
    taken = set(BaseModel.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    return next(slug for n in range(1, 10_000) if (slug := base if n == 1 else f"{base}-{n}") not in taken)


def add_folder(text: str, *, name: str = "") -> BaseModel:
    """List the model in a folder that `save_pretrained` wrote, for everybody; raises Unusable.

    Every worker has to see the same folder under the same path.
    """
    folder = Path(text.strip())
    if not folder.is_absolute():
        raise Unusable("Give the whole path, beginning with a slash.")
    if not folder.is_dir():
        raise Unusable(f"There is no folder {folder} on this host.")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Unusable(
            f"{folder} has no config.json: it is not a transformers or timm model folder."
        ) from None
    except (OSError, ValueError) as error:
        raise Unusable(f"{folder}/config.json cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise Unusable(f"{folder}/config.json is not a JSON object.")
    files = [path for path in folder.iterdir() if path.is_file()]
    facts = facts_of(config, [path.name for path in files])
    resolved = str(folder.resolve())
    if known := BaseModel.objects.filter(source=BaseModel.Source.FOLDER, reference=resolved).first():
        raise Unusable(f"This folder is in the catalogue already, as {known.name}.")
    title = name.strip() or folder.resolve().name
    return BaseModel.objects.create(
        slug=free_slug(title),
        name=title[:200],
        kind=facts.kind,
        source=BaseModel.Source.FOLDER,
        reference=resolved,
        architecture=facts.architecture,
        context_length=facts.context_length,
        image_size=facts.image_size,
        size_bytes=sum(path.stat().st_size for path in files if path.suffix == ".safetensors"),
    )
