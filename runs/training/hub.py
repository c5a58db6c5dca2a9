"""Fetches a model from a hub: one revision, safetensors and text files only."""

from __future__ import annotations

from pathlib import Path

from runs.training.events import TrainingFailure
from runs.training.spec import ModelRef

# No pickle, no code: what is not on this list is not even fetched.
ALLOWED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.md", "LICENSE*", "*.gguf"]


def snapshot(ref: ModelRef, cache_dir: Path | None) -> Path:
    """A local folder with this revision's files; HF_HUB_OFFLINE and HF_ENDPOINT are honoured."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    if not ref.revision:
        raise TrainingFailure(
            "model_unavailable",
            f"The model {ref.name!r} is not pinned to a revision.",
            "Add it to the catalogue again.",
        )
    patterns = [ref.weights_path, "*.json"] if ref.weights_format == "gguf" else ALLOWED[:-1]
    try:
        return Path(
            snapshot_download(
                ref.reference,
                revision=ref.revision,
                allow_patterns=patterns,
                cache_dir=str(cache_dir / "hub") if cache_dir else None,
            )
        )
    except GatedRepoError as error:
        raise TrainingFailure(
            "model_unavailable",
            f"{ref.reference} asks people to accept its terms first.",
            "Accept them on the hub with the account whose HF_TOKEN this worker has.",
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise TrainingFailure(
            "model_unavailable",
            f"{ref.reference} at {ref.revision[:12]} cannot be fetched: {error}",
            "See whether this worker reaches the hub (HF_ENDPOINT, proxies) and HF_HUB_OFFLINE is not set.",
        ) from error
