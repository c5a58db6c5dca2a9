"""A model folder on this host's disk, added by an admin."""

from __future__ import annotations

from pathlib import Path

from django.utils.text import slugify

from webapp.catalog.configs import Unusable, facts_of, read_config
from webapp.catalog.models import BaseModel


def free_slug(name: str) -> str:
    """A slug that no model has yet, and no page beside the models' own."""
    base = slugify(name)[:180] or "model"
    taken = {"hub"} | set(BaseModel.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    return next(slug for n in range(1, 10_000) if (slug := base if n == 1 else f"{base}-{n}") not in taken)


def add_folder(text: str, *, name: str = "") -> BaseModel:
    """List the model in a folder that `save_pretrained` wrote, for everybody; raises Unusable.

    Every worker has to see the same folder under the same path.
    """
    folder = Path(text.strip())
    if not folder.is_absolute():
        raise Unusable("Give the whole path, beginning with a slash.")
    try:
        files = _files_of(folder)
    except (OSError, ValueError) as error:
        raise Unusable(f"This folder cannot be read: {error}") from error
    config = read_config(folder / "config.json")
    facts = facts_of(config, [path.name for path in files])
    resolved = str(folder.resolve())
    if known := BaseModel.objects.filter(source=BaseModel.Source.FOLDER, reference=resolved).first():
        raise Unusable(f"This folder is in the catalogue already, as {known.name}.")
    if len(resolved) > 500:
        raise Unusable("This path is longer than 500 letters; give the folder a shorter one.")
    title = name.replace("\0", "").strip() or folder.resolve().name
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


def _files_of(folder: Path) -> list[Path]:
    """The files right in a model folder; raises Unusable, OSError, ValueError (a path with NUL)."""
    if not folder.is_dir():
        raise Unusable(f"There is no folder {folder} on this host.")
    if not (folder / "config.json").is_file():
        raise Unusable(f"{folder} has no config.json: it is not a transformers or timm model folder.")
    inside = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise Unusable(
                f"{path.relative_to(folder)} is a link out of the folder, so that the model could change unseen. "
                "Copy it with its links followed (cp -rL) and add the copy."
            )
    return [path for path in folder.iterdir() if path.is_file()]
