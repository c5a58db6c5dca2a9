"""The texts of a version in tokens of a model: asked for by a person or a script, counted by a worker, and kept.

A version never changes, nor what a model of the catalogue is, so a count that is there is not made again. One that
could not be made is, when it is asked for once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db.models import Q

from webapp.catalog.models import BaseModel
from webapp.catalog.tokenizers import NoTokenizer, tokenizer_file
from webapp.datasets.claims import (
    COUNT_TOKENS,
    Claims,
    LeaseLost,
    over,
    waiting,
)
from webapp.datasets.inspection import gave_up
from webapp.datasets.isolated import convert_apart
from webapp.datasets.models import DatasetVersion, TokenLengths
from webapp.datasets.problems import Refused
from webapp.datasets.shards import NotHere, on_disk, shards_of

Status = TokenLengths.Status
CLAIMS = Claims(TokenLengths, Q(status=Status.WAITING), COUNT_TOKENS)
KINDS = {"text", "messages", "tokens"}  # of columns that have words


def has_texts(version: DatasetVersion) -> bool:
    """Whether there is anything to count."""
    return any(column["kind"] in KINDS for column in version.columns)


def request_count(version: DatasetVersion, model: BaseModel) -> TokenLengths:
    """The count that is there or being made; else have it made."""
    found, is_new = TokenLengths.objects.get_or_create(version=version, model=model, defaults=waiting())
    again = not is_new and TokenLengths.objects.filter(pk=found.pk, status=Status.REFUSED).update(
        **over() | waiting() | {"status": Status.WAITING, "problems": []}
    )
    if is_new or again:
        CLAIMS.publish_on_commit(found.pk)
        found.refresh_from_db()
    return found


def run_count(lengths_id: int, worker_name: str) -> None:
    """Claim and do it. Finds nothing to do if it is done, claimed, or its version is gone."""
    CLAIMS.carry_out(lengths_id, worker_name, "count", _count, _end_refused)


def requeue_due() -> list[int]:
    """Send wake-ups for counts that nobody works on, and end those that fail again and again."""
    return CLAIMS.requeue_due(
        lambda pk, attempts: _end_refused(pk, None, [gave_up("Counting the tokens", attempts).as_json()])
    )


def _count(lengths: TokenLengths, claim: str, folder: Path) -> None:
    version, model = lengths.version, lengths.model
    try:
        tokenizer = tokenizer_file(model, folder)
    except NoTokenizer as error:
        raise Refused("no_tokenizer", str(error), "Choose another model.") from error
    shards = shards_of(version)
    if {shard.split for shard in shards} != set(version.splits):
        raise Refused(
            "version_missing",
            "The files of this version are no longer in storage.",
            "Upload the dataset again.",
        )
    try:
        with on_disk(shards) as paths:
            order = {
                "files": {shard.split: str(path) for shard, path in zip(shards, paths, strict=True)},
                "columns": version.columns,
                "roles": (version.suggested or {}).get("columns", {}),
                "tokenizer": str(tokenizer),
                "limit": model.context_length,
            }
            result, problems = convert_apart(order, folder, folder, CLAIMS.reporter(lengths.pk, claim))
    except NotHere as error:
        raise Refused("version_missing", str(error), "Upload the dataset again.") from error
    if result is None:
        raise _as_refused(problems[0])
    if not CLAIMS.of(lengths.pk, claim).update(status=Status.DONE, result=result, **over()):
        raise LeaseLost


def _as_refused(problem: dict[str, Any]) -> Refused:
    return Refused(problem["code"], problem["message"], problem["hint"])


def _end_refused(lengths_id: int, claim: str | None, problems: list[dict[str, Any]]) -> None:
    CLAIMS.of(lengths_id, claim).update(status=Status.REFUSED, problems=problems, **over())
