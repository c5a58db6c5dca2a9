"""What scripts ask of a run: the same changes as the buttons of its page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema
from pydantic import ConfigDict

from runs import extending, lifecycle
from runs.api.runs import RunOut, chosen_model, chosen_version, run_out, runs_of
from runs.api.scheduling import PriorityName, SchedulingIn, changes_of
from runs.launch import LaunchError
from runs.models import Run
from runs.repeating import repeat
from webapp.api import ERRORS, ApiError, require_editor

router = Router(tags=["runs"])


class DuplicateIn(SchedulingIn):
    """What is to be other than in the run that is copied; settings join its own."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="id of a model")
    dataset: int | None = Field(
        None, description="id of a dataset; left out: the same version of the same one"
    )
    method: str = ""
    task: str = ""
    columns: dict[str, str] | None = None
    settings: dict[str, Any] | None = None
    name: str = Field("", max_length=200)


class ExtendIn(Schema):
    """How much it should have in all; which of the two, the run's method and settings say."""

    model_config = ConfigDict(extra="forbid")

    num_train_epochs: float | None = None
    max_steps: int | None = None


class PriorityIn(Schema):
    model_config = ConfigDict(extra="forbid")

    priority: PriorityName


def _ask(request: HttpRequest, run_id: int, action: Callable[[Run, Any], object]) -> dict[str, Any]:
    require_editor(request)
    token: Any = request.auth  # type: ignore[attr-defined]
    run = get_object_or_404(runs_of(request), pk=run_id)
    try:
        action(run, token.user)
    except lifecycle.NotAllowed as refused:
        raise ApiError(409, "not_allowed", str(refused)) from refused
    except LaunchError as refused:
        raise ApiError(422, "invalid", str(refused), refused.fields) from refused
    return run_out(request, get_object_or_404(runs_of(request), pk=run_id))


@router.post("/{int:run_id}/cancel", response={200: RunOut, **ERRORS}, summary="Cancel a run")
def cancel_run(request: HttpRequest, run_id: int) -> Any:
    """A run that waits ends at once; one that trains is asked to stop. 409 if it is over."""
    return _ask(request, run_id, lambda run, user: lifecycle.request_cancel(run.pk, user))


@router.post("/{int:run_id}/pause", response={200: RunOut, **ERRORS}, summary="Pause a run")
def pause_run(request: HttpRequest, run_id: int) -> Any:
    """A run that waits is held back; one that trains saves a checkpoint first. 409 if it does neither."""
    return _ask(request, run_id, lambda run, user: lifecycle.request_pause(run.pk, user))


@router.post("/{int:run_id}/resume", response={200: RunOut, **ERRORS}, summary="Resume a paused run")
def resume_run(request: HttpRequest, run_id: int) -> Any:
    """It goes on from its checkpoint as soon as a worker is free. 409 if it is not paused."""
    return _ask(request, run_id, lambda run, user: lifecycle.resume(run.pk, user))


@router.post("/{int:run_id}/retry", response={200: RunOut, **ERRORS}, summary="Try a run again")
def retry_run(request: HttpRequest, run_id: int) -> Any:
    """From its last checkpoint if there is one. 409 unless it failed or was cancelled."""
    return _ask(request, run_id, lambda run, user: lifecycle.retry(run.pk, user))


@router.post("/{int:run_id}/start", response={200: RunOut, **ERRORS}, summary="Start without waiting")
def start_run(request: HttpRequest, run_id: int) -> Any:
    """For a run that waits for its time or for another run. 409 if it waits for neither."""
    return _ask(request, run_id, lambda run, user: lifecycle.start_now(run.pk, user))


@router.post("/{int:run_id}/extend", response={200: RunOut, **ERRORS}, summary="Train a run for longer")
def extend_run(request: HttpRequest, run_id: int, payload: ExtendIn) -> Any:
    """Goes on from the last checkpoint to more epochs or steps. Its files stay until they are replaced."""
    return _ask(request, run_id, lambda run, user: extending.extend(run, user, payload.dict()))


@router.post("/{int:run_id}/priority", response={200: RunOut, **ERRORS}, summary="Change a run's priority")
def prioritise_run(request: HttpRequest, run_id: int, payload: PriorityIn) -> Any:
    """While it is queued or paused, else 409."""
    wanted = Run.Priority[payload.priority.upper()]
    return _ask(request, run_id, lambda run, user: lifecycle.prioritise(run.pk, user, wanted))


@router.post("/{int:run_id}/duplicate", response={201: RunOut, **ERRORS}, summary="Launch a copy of a run")
def duplicate_run(request: HttpRequest, run_id: int, payload: DuplicateIn) -> Any:
    """A new run with the same choices but for what is given here; `made_from` tells which it was."""
    require_editor(request)
    token: Any = request.auth  # type: ignore[attr-defined]
    run = get_object_or_404(runs_of(request), pk=run_id)
    model = run.base_model if payload.model is None else chosen_model(token, payload.model)
    version = run.dataset_version if payload.dataset is None else chosen_version(token, payload.dataset)
    wrong = {
        name: found for name, found in (("model", model), ("dataset", version)) if isinstance(found, str)
    }
    if isinstance(model, str) or isinstance(version, str):
        raise ApiError(422, "invalid", next(iter(wrong.values())), wrong)
    try:
        copy = repeat(
            run,
            token.user,
            name=payload.name,
            base_model=model,
            version=version,
            task=payload.task,
            method=payload.method,
            columns=payload.columns,
            settings=payload.settings,
            scheduling=changes_of(payload, runs_of(request)),
        )
    except LaunchError as refused:
        raise ApiError(422, "invalid", str(refused), refused.fields) from refused
    return 201, run_out(request, get_object_or_404(runs_of(request), pk=copy.pk))
