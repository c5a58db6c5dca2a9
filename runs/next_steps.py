"""What can be done about a failure, each a button: on the run's page, and in the API as `failure.actions`.

Nothing here changes a run. A run's settings are never changed in place: what would need others leads to the
form of a new run, filled in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse

from runs.models import Run
from runs.training.tasks import get_task

SHORTEST = 64  # tokens; below, halving the length loses more than it saves


@dataclass(frozen=True)
class Step:
    """A button. `url` is a path of the site; POST for what acts at once, GET for a page that leads on."""

    kind: str
    title: str
    url: str
    method: str = "GET"
    icon: str = "arrow-right"

    @property
    def only_looks(self) -> bool:
        """Whether a person who may change nothing can take it, too."""
        return self.kind in {"open_row", "log", "hosts"}


def after_failure(run: Run) -> list[Step]:
    """The likeliest first; empty for a run that did not fail."""
    if run.status != Run.Status.FAILED:
        return []
    choose = STEPS.get(str(run.failure.get("code")), _after_crash)
    found = [step for step in choose(run) if step is not None]
    # Without its dataset it cannot go on; a new one on another can be made.
    return [step for step in found if step.kind != "retry" or run.dataset_version_id is not None]


# -- buttons ---------------------------------------------------------------------------------------
def _retry(run: Run) -> Step:
    step = run.checkpoints.order_by("-step").values_list("step", flat=True).first()
    title = f"Go on from step {step:,}" if step else "Try again"
    return Step("retry", title, reverse("runs:retry", args=[run.pk]), "POST", "refresh")


def _again(run: Run, kind: str, title: str, icon: str, **settings: Any) -> Step:
    """The form of a new run, filled in like this one but for these settings."""
    asked = {"from": run.pk, **{f"settings-{name}": value for name, value in settings.items()}}
    return Step(kind, title, f"{reverse('runs:new')}?{urlencode(asked)}", icon=icon)


def _change(run: Run) -> Step:
    return _again(run, "change", "Change the settings", "edit")


def _other_model(run: Run) -> Step:
    asked = {"task": run.task}
    if run.dataset_version is not None:
        asked["dataset"] = str(run.dataset_version.dataset_id)
    return Step(
        "choose_model", "Choose another model", f"{reverse('runs:new')}?{urlencode(asked)}", icon="cube"
    )


def _log(run: Run) -> Step:
    return Step("log", "Read the log", reverse("runs:log", args=[run.pk]), icon="terminal-2")


def _page(kind: str, title: str, icon: str, name: str) -> Step | None:
    """A page that is there only where its part of Tuneboard is installed."""
    try:
        return Step(kind, title, reverse(name), icon=icon)
    except NoReverseMatch:
        return None


# -- by reason -------------------------------------------------------------------------------------
def _after_out_of_memory(run: Run) -> list[Step | None]:
    values = run.settings
    batch = _whole(values.get("per_device_train_batch_size"))
    evaluation = _whole(values.get("per_device_eval_batch_size"))
    length = _whole(values.get("max_length"))
    known = _names_of_settings(run)
    changed: dict[str, Any] = {}
    title = ""
    if batch > 1:
        title = "Try with half the batch"
        changed["per_device_train_batch_size"] = batch // 2
        if "gradient_accumulation_steps" in known:  # the same rows an update: the result stays the same
            changed["gradient_accumulation_steps"] = 2 * max(
                1, _whole(values.get("gradient_accumulation_steps"))
            )
        if evaluation > 1:
            changed["per_device_eval_batch_size"] = evaluation // 2
    elif length > SHORTEST:
        title = "Try with half the length"
        changed["max_length"] = length // 2
    elif evaluation > 1:
        title = "Try with a smaller evaluation batch"
        changed["per_device_eval_batch_size"] = evaluation // 2
    return [
        _again(run, "smaller", title, "adjustments", **changed) if changed else _change(run),
        _other_model(run),
        _retry(run),
    ]


def _after_bad_data(run: Run) -> list[Step | None]:
    row = _bad_row(run)
    upload = Step("upload", "Upload corrected data", reverse("datasets:upload"), icon="upload")
    return [row or _again(run, "change", "Choose the columns again", "columns"), upload]


def _bad_row(run: Run) -> Step | None:
    found = run.failure.get("details") or {}
    if not (run.dataset_version and found.get("split") and found.get("row")):
        return None
    asked = {"version": run.dataset_version.number}
    asked |= {name: found[name] for name in ("split", "row", "column") if found.get(name)}
    url = f"{reverse('datasets:detail', args=[run.dataset_version.dataset_id])}?{urlencode(asked)}#row"
    return Step("open_row", f"Open row {int(found['row']):,} of the {found['split']} rows", url, icon="table")


def _after_missing_model(run: Run) -> list[Step | None]:
    return [_other_model(run), _retry(run)]


def _after_divergence(run: Run) -> list[Step | None]:
    rate = run.settings.get("learning_rate")
    if not isinstance(rate, int | float) or rate <= 0:
        return [_change(run)]
    title = f"Try with the learning rate {rate / 10:g}"
    lower = _again(run, "lower_learning_rate", title, "trending-down", learning_rate=f"{rate / 10:g}")
    return [lower, _change(run)]


def _after_full_disk(run: Run) -> list[Step | None]:
    room = _page("free_space", "Free space", "database", "housekeeping:page")
    return [_retry(run), room or _hosts()]


def _after_loss(run: Run) -> list[Step | None]:
    return [_retry(run), _hosts()]


def _hosts() -> Step | None:
    return _page("hosts", "See the hosts", "server", "hosts:list")


def _after_time_limit(run: Run) -> list[Step | None]:
    shorter = _again(run, "raise_time_limit", "Raise the limit or train for less", "clock")
    return [_retry(run), shorter]


def _after_bad_settings(run: Run) -> list[Step | None]:
    return [_change(run)]


def _after_crash(run: Run) -> list[Step | None]:
    return [_retry(run), _log(run)]


STEPS: dict[str, Callable[[Run], list[Step | None]]] = {
    "out_of_memory": _after_out_of_memory,
    "bad_data": _after_bad_data,
    "bad_settings": _after_bad_settings,
    "model_unavailable": _after_missing_model,
    "diverged": _after_divergence,
    "disk_full": _after_full_disk,
    "crashed": _after_crash,
    "worker_lost": _after_loss,
    "time_limit": _after_time_limit,
}


def _whole(value: Any) -> int:
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def _names_of_settings(run: Run) -> set[str]:
    try:
        return {item.name for item in get_task(run.task).settings_for(run.method)}
    except KeyError:
        return set()
