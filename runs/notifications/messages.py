"""What is said of a run: a title, a sentence, and the facts for programs. Composed when it happens, as it was then."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

from django.conf import settings
from django.urls import reverse

from runs import results
from runs.models import Channel, Delivery, Run
from webapp.templatetags.ui import duration, number

TITLES = {
    "succeeded": "{name} has succeeded",
    "failed": "{name} has failed",
    "diverged": "{name} has diverged",
    "stalled": "{name} stalls",
    "recovered": "{name} goes on",
    "cancelled": "{name} was cancelled",
}


def of_run(run: Run, happening: str, told: str) -> dict[str, Any]:
    """{title, text, path, data} for something that happened to a run; `told` is how its story says it."""
    name = " ".join(run.name.split()) or f"Run {run.pk}"
    text = told
    if happening == "succeeded":
        text = _success(run)
    elif happening in {"failed", "diverged"}:
        hint = str(run.failure.get("hint") or "")
        text = f"{told} What to try: {hint}" if hint else told
    return {
        "title": TITLES[happening].format(name=name),
        "text": text,
        "path": reverse("runs:detail", args=[run.pk]),
        "data": {
            "run": _facts(run),
            "workspace": {"slug": run.workspace.slug, "name": run.workspace.name},
        },
    }


def of_test(channel: Channel) -> dict[str, Any]:
    """What *Send a test* sends."""
    return {
        "title": "Test from Tuneboard",
        "text": f"{channel.get_kind_display()} works: this is where Tuneboard tells you how your runs go.",
        "path": reverse("notifications:settings"),
        "data": {"workspace": {"slug": channel.workspace.slug, "name": channel.workspace.name}},
    }


def of_switching_off(channel: Channel) -> dict[str, Any]:
    """What the other channels of a person say when one had to be switched off."""
    return {
        "title": f"Notifications by {channel.get_kind_display().lower()} were switched off",
        "text": f"{channel}: {channel.switched_off}",
        "path": reverse("notifications:channel", args=[channel.pk]),
        "data": {
            "channel": {"id": channel.pk, "name": str(channel), "kind": channel.kind},
            "workspace": {"slug": channel.workspace.slug, "name": channel.workspace.name},
        },
    }


def headline(run: Run) -> dict[str, Any] | None:
    """The number that matters most: {metric, title, split, value, text, baseline}; None before there is one."""
    task = results.task_of(run)
    if task is None:
        return None
    splits = results.SPLITS if run.status == Run.Status.SUCCEEDED else results.SPLITS[1:]
    baseline = (run.baseline or {}).get("metrics") or {}
    info = results.metric_info(task, task.main_metric)
    for prefix, split in splits:
        name = f"{prefix}{task.main_metric}"
        value = run.metrics.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            return {
                "metric": name,
                "title": info.title if info else name,
                "split": split.lower(),
                "value": value,
                "text": results.shown(info, value),
                "baseline": baseline.get(name),
            }
    return None


def _success(run: Run) -> str:
    best = headline(run)
    said = "The model is ready to download."
    if best is not None:
        said = f"{best['title']} on the {best['split']} rows: {best['text']}"
        if isinstance(best["baseline"], int | float):
            task = results.task_of(run)
            info = results.metric_info(task, task.main_metric) if task else None
            said += f" ({results.shown(info, best['baseline'])} without training)"
        said += "."
    if run.started_at and run.finished_at:
        said += f" It took {duration((run.finished_at - run.started_at).total_seconds())}."
    return said


def _facts(run: Run) -> dict[str, Any]:
    def moment(value: datetime | None) -> str | None:
        return value.isoformat() if value else None

    failure = run.failure or {}
    return {
        "id": run.pk,
        "name": run.name,
        "status": run.status,
        "phase": run.phase,
        "task": run.task,
        "method": run.method,
        "model": run.base_model.slug,
        "dataset": run.dataset_name,
        "created_by": run.created_by.get_username() if run.created_by else None,
        "attempt": run.attempt,
        "step": run.step,
        "total_steps": run.total_steps,
        "epoch": run.epoch,
        "metrics": run.metrics,
        "headline": headline(run),
        # The log's lines stay out: they can hold anything.
        "failure": {key: failure.get(key, "") for key in ("code", "message", "hint")} if failure else None,
        "created_at": moment(run.created_at),
        "started_at": moment(run.started_at),
        "finished_at": moment(run.finished_at),
    }


def address(delivery: Delivery) -> str:
    """Where the message leads. Made when it is sent: a worker that writes it need not know TUNEBOARD_URL."""
    return settings.PUBLIC_URL + str(delivery.message.get("path", "/"))


def webhook_id(delivery: Delivery) -> str:
    """The message's id, the same at every try."""
    return f"msg_{delivery.key.hex}"


def webhook_body(delivery: Delivery) -> bytes:
    """The JSON that a webhook gets, in UTF-8: id, type, timestamp, text, data (docs/notifications.md)."""
    message, link = delivery.message, address(delivery)
    data = dict(message.get("data", {}))
    if "run" in data:
        data["run"] = {**data["run"], "url": link}
    body = {
        "id": webhook_id(delivery),
        "type": delivery.type,
        "timestamp": delivery.created_at.isoformat(),
        # Chat servers with incoming webhooks of Slack's kind show this and need no program in between.
        "text": f"{delivery.title}: {delivery.text} {link}",
        "data": data,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def mail_facts(delivery: Delivery) -> list[tuple[str, str]]:
    """The lines of facts below a mail's sentence."""
    run = delivery.message.get("data", {}).get("run")
    if not run:
        return []
    steps = f"{number(run['step'])} of {number(run['total_steps'])}" if run["total_steps"] else ""
    facts = [("Model", run["model"]), ("Dataset", run["dataset"]), ("Method", run["method"]), ("Step", steps)]
    failure = run["failure"] or {}
    facts.append(("Reason", failure.get("code", "")))
    facts.append(("Workspace", delivery.message["data"]["workspace"]["name"]))
    return [(title, str(value)) for title, value in facts if value]
