"""Storage over HTTP: what it holds, what goes by itself, and deleting or keeping a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema
from pydantic import ConfigDict

from runs import lifecycle
from runs.api.runs import router as runs_router
from runs.api.runs import runs_of
from runs.housekeeping import daily, planning, rules, use
from runs.housekeeping.deleting import delete_run
from runs.housekeeping.forms import LONGEST
from runs.housekeeping.keeping import keep_run
from runs.models import Removal, RetentionRule, Run
from webapp.accounts.access import role_in
from webapp.accounts.models import Membership
from webapp.api import ERRORS, ApiError, require_editor

router = Router(tags=["storage"])


class RemovedOut(Schema):
    """What is gone of a run, and why. `names` are those of files or steps."""

    kind: str
    count: int
    size: int
    reason: str
    names: list[str]
    at: datetime


class RunStorageOut(Schema):
    keep: bool
    size: int
    files: int
    file_size: int
    checkpoints: int
    checkpoint_size: int
    removed: list[RemovedOut]


class RuleOut(Schema):
    """After how many days what goes; null: never."""

    checkpoint_days: int | None = Field(None, ge=0, le=LONGEST)
    unfinished_checkpoint_days: int | None = Field(None, ge=0, le=LONGEST)
    checkpoint_keep: str = "none"
    log_days: int | None = Field(None, ge=0, le=LONGEST)
    file_days: int | None = Field(None, ge=0, le=LONGEST)
    unfinished_file_days: int | None = Field(None, ge=0, le=LONGEST)
    metric_days: int | None = Field(None, ge=0, le=LONGEST)
    metric_action: str = "thin"
    run_days: int | None = Field(None, ge=0, le=LONGEST)


class RuleIn(RuleOut):
    """As the answer; what is left out never goes."""

    model_config = ConfigDict(extra="forbid")


class KindOut(Schema):
    title: str
    files: int
    size: int


class StorageOut(Schema):
    """What the workspace holds, as it was last counted, and its rule."""

    size: int
    kinds: list[KindOut]
    measured_at: datetime | None
    rule: RuleOut
    rule_is_own: bool


class ItemOut(Schema):
    run: int
    run_name: str
    kind: str
    count: int
    size: int
    reason: str
    names: list[str]


class PlanOut(Schema):
    """What would go; `more` says that the list is cut."""

    items: list[ItemOut]
    size: int
    more: bool


class ReportOut(Schema):
    removed: list[RemovedOut]
    size: int


def _removed(item: Removal) -> dict[str, Any]:
    names = item.details.get("names", [])
    return {
        "kind": item.kind, "count": item.count, "size": item.size_bytes, "reason": item.reason, "names": names,
        "at": item.at,
    }  # fmt: skip


def _run_storage(run: Run) -> dict[str, Any]:
    held = use.use_of_run(run, list(run.artifacts.values_list("size", flat=True)))
    return {
        "keep": run.keep,
        "size": held.size_bytes,
        "files": held.files,
        "file_size": held.file_bytes,
        "checkpoints": held.checkpoints,
        "checkpoint_size": held.checkpoint_bytes,
        "removed": [_removed(item) for item in held.removed],
    }


@runs_router.delete("/{int:run_id}", response={204: None, **ERRORS}, summary="Delete a run")
def delete(request: HttpRequest, run_id: int) -> tuple[int, None]:
    """With its files, checkpoints, logs and metrics. 409 while it is running: cancel it first."""
    require_editor(request)
    caller: Any = request
    try:
        delete_run(get_object_or_404(runs_of(request), pk=run_id), caller.auth.user)
    except lifecycle.NotAllowed as refused:
        raise ApiError(409, "not_allowed", str(refused)) from refused
    return 204, None


@runs_router.get("/{int:run_id}/storage", response={200: RunStorageOut, **ERRORS}, summary="What a run holds")
def run_storage(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """Bytes in storage, and what is gone and why."""
    return _run_storage(get_object_or_404(runs_of(request), pk=run_id))


@runs_router.post("/{int:run_id}/keep", response={200: RunStorageOut, **ERRORS}, summary="Keep a run")
def keep(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """No rule removes anything of it."""
    return _kept(request, run_id, True)


@runs_router.delete(
    "/{int:run_id}/keep", response={200: RunStorageOut, **ERRORS}, summary="Keep a run no longer"
)
def keep_no_longer(request: HttpRequest, run_id: int) -> dict[str, Any]:
    """The rule of its workspace counts again."""
    return _kept(request, run_id, False)


def _kept(request: Any, run_id: int, wanted: bool) -> dict[str, Any]:
    require_editor(request)
    run = get_object_or_404(runs_of(request), pk=run_id)
    keep_run(run, wanted, request.auth.user)
    run.refresh_from_db()
    return _run_storage(run)


def _owner(request: Any) -> None:
    """Raises ApiError 403 for whoever does not own the workspace."""
    if role_in(request.auth.user, request.auth.workspace) != Membership.Role.OWNER:
        raise ApiError(403, "forbidden", "Only an owner of this workspace may do this.")


def _rule(payload: RuleIn) -> RetentionRule:
    wrong = {}
    if payload.checkpoint_keep not in RetentionRule.KeepCheckpoint.values:
        wrong["checkpoint_keep"] = f"one of: {', '.join(RetentionRule.KeepCheckpoint.values)}"
    if payload.metric_action not in RetentionRule.Points.values:
        wrong["metric_action"] = f"one of: {', '.join(RetentionRule.Points.values)}"
    if wrong:
        raise ApiError(422, "invalid", "; ".join(f"{key} is {text}" for key, text in wrong.items()), wrong)
    return RetentionRule(**payload.model_dump())


def _plan_out(found: planning.Plan) -> dict[str, Any]:
    items = [
        {
            "run": item.run_id, "run_name": item.run_name, "kind": item.kind, "count": item.count,
            "size": item.size_bytes, "reason": item.reason, "names": list(item.names),
        }
        for item in found.items
    ]  # fmt: skip
    return {"items": items, "size": found.size_bytes, "more": found.is_cut}


@router.get("", response={200: StorageOut, **ERRORS}, summary="What the workspace holds")
def storage_use(request: HttpRequest) -> dict[str, Any]:
    """Bytes by kind, and the rule by which things go."""
    caller: Any = request
    held = use.use_of(caller.auth.workspace)
    own = rules.own_rule(caller.auth.workspace)
    return {
        "size": held.size_bytes,
        "kinds": [{"title": k.title, "files": k.files, "size": k.size_bytes} for k in held.kinds],
        "measured_at": held.measured_at,
        "rule": own or rules.site_rule(),
        "rule_is_own": own is not None,
    }


@router.get("/preview", response={200: PlanOut, **ERRORS}, summary="What the saved rule would remove")
def preview_saved(request: HttpRequest) -> dict[str, Any]:
    """If it were applied now."""
    _owner(request)
    caller: Any = request
    workspace = caller.auth.workspace
    return _plan_out(planning.plan(rules.rule_for(workspace), workspace))


@router.post("/preview", response={200: PlanOut, **ERRORS}, summary="What a rule would remove")
def preview_rule(request: HttpRequest, payload: RuleIn) -> dict[str, Any]:
    """Of the rule that is sent; nothing is saved or removed."""
    _owner(request)
    caller: Any = request
    return _plan_out(planning.plan(_rule(payload), caller.auth.workspace))


@router.post("/rule", response={200: RuleOut, **ERRORS}, summary="Save the workspace's rule")
def save_rule(request: HttpRequest, payload: RuleIn) -> Any:
    """Applied once a day from now on."""
    _owner(request)
    caller: Any = request
    return rules.save_rule(caller.auth.workspace, _rule(payload), caller.auth.user)


@router.delete("/rule", response={200: RuleOut, **ERRORS}, summary="Follow the site's rule")
def reset_rule(request: HttpRequest) -> Any:
    """Give up the workspace's own rule; the answer is the one that counts again."""
    _owner(request)
    caller: Any = request
    if own := rules.own_rule(caller.auth.workspace):
        own.delete()
    return rules.site_rule()


@router.post("/apply", response={200: ReportOut, **ERRORS}, summary="Apply the saved rule now")
def apply_rule(request: HttpRequest) -> dict[str, Any]:
    """What went; the files leave storage within seconds."""
    _owner(request)
    caller: Any = request
    report = daily.now(caller.auth.workspace, caller.auth.user.get_username())
    gone = [_removed(item) for item in report.removals.all()]
    return {"removed": gone, "size": sum(item["size"] for item in gone)}
