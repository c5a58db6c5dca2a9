"""Finding models on a Hugging Face hub (HF_ENDPOINT). Without one the catalogue says so and goes on."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from huggingface_hub import ModelInfo, get_session, hf_hub_download, hf_raise_for_status
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from webapp.catalog.configs import LARGEST_CONFIG, Unusable, facts_of, read_config
from webapp.catalog.folders import free_slug
from webapp.catalog.models import BaseModel
from webapp.hub import FAILURES, TIMEOUT_SECONDS, api, short

FOUND = 12
UNREACHABLE = "No hub can be reached from here, so only models in this catalogue are shown."


@dataclass(frozen=True)
class HubModel:
    """A model that a hub offers."""

    repository: str
    task: str
    downloads: int
    likes: int
    licence: str
    parameters: int | None


@dataclass(frozen=True)
class HubAnswer:
    """What a search found, or why it could not be made."""

    models: list[HubModel]
    problem: str = ""


def search(words: str) -> HubAnswer:
    """The most used models with safetensors weights that match; an unreachable hub is asked again after a minute."""
    named = hashlib.sha256(words.strip().lower().encode()).hexdigest()
    key = f"hub:{settings.HF_ENDPOINT}:{named}"
    known: HubAnswer | None = cache.get(key)
    if known is not None:
        return known
    if cache.get(f"hub:{settings.HF_ENDPOINT}:away"):
        return HubAnswer([], UNREACHABLE)
    try:
        answer = HubAnswer([_hub_model(found) for found in _ask(words)])
    except FAILURES:
        cache.set(f"hub:{settings.HF_ENDPOINT}:away", True, 60)
        return HubAnswer([], UNREACHABLE)
    cache.set(key, answer, 60)
    return answer


def _ask(words: str) -> list[ModelInfo]:
    """One page of models. Not by `HfApi.list_models`, which has no time limit and tries five times over."""
    asked: dict[str, Any] = {
        "search": words.strip(),
        "filter": "safetensors",
        "sort": "downloads",
        "limit": FOUND,
    }
    asked["expand"] = ["downloads", "likes", "pipeline_tag", "safetensors", "tags"]
    headers = build_hf_headers(library_name="tuneboard")
    address = f"{settings.HF_ENDPOINT}/api/models"
    answer = get_session().get(address, params=asked, headers=headers, timeout=TIMEOUT_SECONDS)
    hf_raise_for_status(answer)
    rows = answer.json()[:FOUND]
    return [ModelInfo(**{"siblings": None, **row}) for row in rows]  # type: ignore[no-untyped-call]


def _hub_model(found: Any) -> HubModel:
    licence = next((tag[8:] for tag in found.tags or [] if tag.startswith("license:")), "")
    total = getattr(found.safetensors, "total", None)
    return HubModel(
        found.id, found.pipeline_tag or "", found.downloads or 0, found.likes or 0, licence, total
    )


def add(repository: str, *, workspace: Any, revision: str | None = None) -> BaseModel:
    """List a hub's model in this workspace, pinned to the commit that is newest now; raises Unusable."""
    repository = repository.strip()
    try:
        info = api().model_info(repository, revision=revision, timeout=TIMEOUT_SECONDS, files_metadata=True)
        found = _hub_model(info)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        if "config.json" not in sizes:
            raise Unusable(f"{repository} has no config.json: it is not a transformers or timm model.")
        if sizes["config.json"] > LARGEST_CONFIG:
            raise Unusable(
                f"The config.json of {repository} has {sizes['config.json']:,} bytes: it is no model's."
            )
        with tempfile.TemporaryDirectory() as folder:
            path = hf_hub_download(
                repository,
                "config.json",
                revision=info.sha,
                local_dir=folder,
                endpoint=settings.HF_ENDPOINT,
                etag_timeout=TIMEOUT_SECONDS,
            )
            config = read_config(Path(path))
    except GatedRepoError:
        raise Unusable(
            f"{repository} is gated: its owners let in only people who have accepted their terms."
        ) from None
    except RepositoryNotFoundError:
        raise Unusable(f"The hub has no public model {repository!r}.") from None
    except HFValidationError:
        raise Unusable(f"{repository!r} is not a model's name; it looks like owner/name.") from None
    except FAILURES as error:
        raise Unusable(f"The hub did not give {repository}: {short(error)}") from error
    facts = facts_of(config, list(sizes))
    if known := BaseModel.objects.filter(
        workspace=workspace, source=BaseModel.Source.HUB, reference=repository, revision=info.sha
    ).first():
        return known
    return BaseModel.objects.create(
        workspace=workspace,
        slug=free_slug(repository.replace("/", "-")),
        name=repository.rsplit("/", 1)[-1][:200],
        summary=f"{repository} on the hub, at commit {str(info.sha)[:12]}.",
        kind=facts.kind,
        source=BaseModel.Source.HUB,
        reference=repository,
        revision=info.sha or "",
        architecture=facts.architecture,
        parameters=found.parameters,
        size_bytes=sum(size for name, size in sizes.items() if name.endswith(".safetensors")) or None,
        licence=found.licence[:100],
        homepage=f"{settings.HF_ENDPOINT}/{repository}"[:500],
        context_length=facts.context_length,
        image_size=facts.image_size,
    )
