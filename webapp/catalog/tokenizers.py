"""Where the tokenizer of a model lies: a `tokenizer.json`, or the model's GGUF file, which has it inside."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from django.conf import settings
from django.db.models import QuerySet
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from webapp import storage
from webapp.accounts.models import User
from webapp.catalog.models import BaseModel
from webapp.catalog.starters import all_starters
from webapp.hub import FAILURES, TIMEOUT_SECONDS

NAME = "tokenizer.json"


class NoTokenizer(Exception):
    """There is none to be had; the message is for the person who asked."""


def models_with_tokenizer(user: User) -> QuerySet[BaseModel]:
    """The models that read texts, of those that this person may see and whose files can be here."""
    absent = [starter.slug for starter in all_starters() if not starter.is_installed]
    kinds = (BaseModel.Kind.TEXT_ENCODER, BaseModel.Kind.TEXT_DECODER)
    found = BaseModel.objects.visible_to(user).filter(kind__in=kinds).order_by("name")
    return found.exclude(source=BaseModel.Source.STARTER, slug__in=absent)


def tokenizer_file(model: BaseModel, folder: Path) -> Path:
    """A local file; what has to be fetched goes into `folder`. Raises NoTokenizer."""
    name = model.weights_path if model.weights_format == "gguf" else NAME
    if model.source == BaseModel.Source.HUB:
        return _of_hub(model, name, folder)
    if model.source == BaseModel.Source.STARTER:
        spec = find_spec(model.reference)
        if spec is None or spec.origin is None:
            raise NoTokenizer(f"The package of {model.name} is not installed on this host.")
        root = Path(spec.origin).parent
        path = root / name if model.weights_format == "gguf" else root / model.weights_path / name
    elif Path(model.reference).is_absolute():
        path = Path(model.reference) / name
    else:
        return _of_storage(model, name, folder)
    if not path.is_file():
        raise NoTokenizer(f"{model.name} has no {Path(name).name} on this host.")
    return path


def _of_storage(model: BaseModel, name: str, folder: Path) -> Path:
    key = f"{model.reference.rstrip('/')}/{name}"
    local = storage.local_path(key)
    path = local if local is not None else folder / Path(name).name
    try:
        if local is None:
            storage.get(key, path)
        elif not local.is_file():
            raise FileNotFoundError(key)
    except FileNotFoundError as error:
        raise NoTokenizer(f"{model.name} has no {Path(name).name} in storage.") from error
    return path


def _of_hub(model: BaseModel, name: str, folder: Path) -> Path:
    try:
        return Path(
            hf_hub_download(
                model.reference,
                name,
                revision=model.revision or None,
                local_dir=folder,
                endpoint=settings.HF_ENDPOINT,
                etag_timeout=TIMEOUT_SECONDS,
            )
        )
    except EntryNotFoundError as error:
        raise NoTokenizer(f"{model.name} has no {name} on the hub.") from error
    except FAILURES as error:
        raise NoTokenizer(f"The hub did not give the tokenizer of {model.name}.") from error
