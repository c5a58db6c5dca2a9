"""What a Hugging Face hub has under a dataset's name: asked while somebody waits, fetched later by a worker (hub_fetch)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.conf import settings
from huggingface_hub import DatasetCardData, DatasetInfo, get_session, hf_raise_for_status
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, validate_repo_id  # type: ignore[attr-defined]

from webapp.datasets.hub_files import Chosen, NoFiles, NotUsable, RepoFile, choose, choose_converted
from webapp.datasets.problems import shown
from webapp.hub import FAILURES, TIMEOUT_SECONDS, api, short

MOST_FILES = 500
MAIN = "main"
CONVERTED = "refs/convert/parquet"  # where the hub keeps Parquet that it made itself, of the newest commit
COMMIT = re.compile(r"[0-9a-f]{40,64}")


class Unreachable(Exception):
    """No hub answered as one would; the message says what to do."""


@dataclass(frozen=True)
class Found:
    """A dataset of a hub at one commit, and the files to fetch."""

    dataset: str
    revision: str  # as it was asked for
    commit: str
    files_commit: str  # of the files: another one where they are those that the hub made
    chosen: Chosen

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file, _ in self.chosen.files)

    def as_json(self) -> dict[str, Any]:
        """As Dataset.request["source"]."""
        return {
            "kind": "hub",
            "dataset": self.dataset,
            "config": self.chosen.config,
            "revision": self.revision,
            "commit": self.commit,
            "files_commit": self.files_commit,
            "left_out": self.chosen.left_out[:20],
            "size": self.size,
            "files": [[file.path, file.size, split, file.sha256] for file, split in self.chosen.files],
        }


def find(dataset: str, *, config: str = "", revision: str = "", split: str = "") -> Found:
    """Look it up, its revision as a commit. Raises NotUsable with the field to mend, or Unreachable."""
    dataset, revision = dataset.strip(), revision.strip()
    try:
        if not dataset:
            raise HFValidationError
        validate_repo_id(dataset)
        info = _info(dataset, revision)
        files = _files(info)
        described = info.card_data
        card = vars(described) if isinstance(described, DatasetCardData) else None
        files_commit = str(info.sha)
        try:
            chosen = choose(files, card, config.strip(), split.strip())
        except NoFiles:
            if revision not in ("", MAIN):
                raise
            made = _converted(dataset)
            if made is None:
                raise
            chosen = choose_converted(_files(made), config.strip(), split.strip())
            files_commit = str(made.sha)
        found = Found(info.id, revision, str(info.sha), files_commit, chosen)
        if info.gated:
            _check_let_in(found)
    except GatedRepoError:
        raise NotUsable(
            "dataset",
            f"{dataset} is gated: its owners let in only people who have accepted their terms. Accept them with the "
            "account whose HF_TOKEN this server has.",
        ) from None
    except RevisionNotFoundError:
        raise NotUsable("revision", f"{dataset} has no revision {shown(revision)}.") from None
    except RepositoryNotFoundError:
        raise NotUsable("dataset", f"The hub has no public dataset {shown(dataset)}.") from None
    except HFValidationError:
        raise NotUsable(
            "dataset", f"{shown(dataset)} is not a dataset’s name; it looks like owner/name."
        ) from None
    except FAILURES as error:
        raise Unreachable(
            f"The hub did not give {shown(dataset)}: {short(error)}. Without a hub, upload its files instead."
        ) from error
    if len(found.chosen.files) > MOST_FILES:
        raise NotUsable(
            "dataset",
            f"It has {len(found.chosen.files):,} files; at most {MOST_FILES} can be fetched. Choose one split, or "
            "upload a part of it.",
        )
    return found


def address(dataset: str, commit: str, path: str) -> str:
    """Where a hub has a file."""
    return f"{settings.HF_ENDPOINT}/datasets/{quote(dataset)}/resolve/{quote(commit, safe='')}/{quote(path)}"


def _info(dataset: str, revision: str) -> DatasetInfo:
    found = api().dataset_info(
        dataset, revision=revision or None, timeout=TIMEOUT_SECONDS, files_metadata=True
    )
    validate_repo_id(found.id)
    if not COMMIT.fullmatch(str(found.sha)):
        raise ValueError("it names no commit")
    return found


def _converted(dataset: str) -> DatasetInfo | None:
    try:
        return _info(dataset, CONVERTED)
    except HfHubHTTPError:  # there is no such branch
        return None


def _files(info: DatasetInfo) -> list[RepoFile]:
    return [
        RepoFile(str(file.rfilename), int(file.size or 0), str(file.lfs.sha256) if file.lfs else "")
        for file in info.siblings or []
    ]


def _check_let_in(found: Found) -> None:
    """Raises GatedRepoError where this server's token, if it has one, does not open the files."""
    where = address(found.dataset, found.files_commit, found.chosen.files[0][0].path)
    headers = build_hf_headers(library_name="tuneboard")
    hf_raise_for_status(get_session().head(where, headers=headers, timeout=TIMEOUT_SECONDS))
