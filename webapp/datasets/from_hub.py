"""A dataset of a Hugging Face hub: looked up now and pinned to its commit; a worker fetches and inspects it."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpRequest
from ninja import Field, Router, Schema

from webapp.accounts.models import User, Workspace
from webapp.api import ERRORS, ApiError, require_editor
from webapp.datasets import hub, intake
from webapp.datasets.api import DatasetOut, described
from webapp.datasets.api_common import refused
from webapp.datasets.claims import waiting
from webapp.datasets.hub_files import NotUsable
from webapp.datasets.models import Dataset

router = Router(tags=["datasets"])


class FromHub(Schema):
    """Which dataset, and what else can be said, as in `POST datasets`."""

    dataset: str = Field(max_length=200, description="owner/name on the hub")
    config: str = Field(
        "", max_length=200, description="its configuration; may be left out where there is one"
    )
    revision: str = Field("", max_length=200, description="a branch, tag or commit; left out: the newest")
    split: str = Field("", max_length=200, description="one of its splits, to be split anew; left out: all")
    name: str = ""
    task: str = ""
    columns: dict[str, str] = {}
    split_column: str = ""
    seed: int | None = None


def create_of_hub(
    *,
    workspace: Workspace,
    user: User | None,
    dataset: str,
    config: str = "",
    revision: str = "",
    split: str = "",
    name: str = "",
    request: dict[str, Any] | None = None,
) -> Dataset:
    """Look it up and have it fetched. Raises IntakeError with the field to mend, or hub.Unreachable."""
    asked = intake.checked_request(request or {})
    try:
        found = hub.find(dataset, config=config, revision=revision, split=split)
    except NotUsable as error:
        raise intake.IntakeError({error.field: str(error)}) from error
    with transaction.atomic():
        # One at a time in a workspace: each sees what the others will take.
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        if reason := intake.size_refusal(workspace, found.size):
            raise intake.IntakeError({"dataset": reason}, status=413)
        made: Dataset = Dataset.objects.create(
            workspace=workspace,
            created_by=user,
            name=" ".join(name.split())[:200] or found.dataset.rsplit("/", 1)[-1][:200],
            request={**asked, "source": found.as_json()},
            **waiting(),
        )
        intake.publish_inspection(made)
    return made


@router.post("from-hub", response={201: DatasetOut, **ERRORS}, summary="Take a dataset from a hub")
def from_hub(request: HttpRequest, payload: FromHub) -> tuple[int, dict[str, Any]]:
    """The revision is resolved to a commit at once (`source.commit`); a worker then fetches the files: ask by id.

    422 with the code `hub_unreachable` where no hub answers; 413 where it is larger than this server or the workspace's quota takes.
    """
    require_editor(request)
    owner: Any = request
    said = payload.dict()
    place = {key: said.pop(key) for key in ("dataset", "config", "revision", "split", "name")}
    try:
        made = create_of_hub(workspace=owner.auth.workspace, user=owner.auth.user, request=said, **place)
    except hub.Unreachable as error:
        raise ApiError(422, "hub_unreachable", str(error), {"dataset": str(error)}) from error
    except intake.IntakeError as error:
        raise refused(error) from error
    return 201, described(made)
