"""Where a dataset comes from that was not uploaded: Dataset.request["source"], in words, by its `kind`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.urls import reverse

from webapp.datasets import hub_fetch
from webapp.datasets.models import Dataset
from webapp.datasets.problems import Problem


@dataclass(frozen=True)
class Shown:
    """An entry of the page's facts. `elsewhere`: the address is not of this server."""

    title: str
    text: str
    address: str = ""
    elsewhere: bool = False
    facts: list[tuple[str, str]] = field(default_factory=list)


def shown(dataset: Dataset) -> Shown | None:
    """None for uploaded files and samples."""
    source = dataset.request.get("source")
    if not source:
        return None
    if source["kind"] == "hub":
        return _of_hub(source)
    return Shown("Predictions of a run", source["name"], reverse("runs:detail", args=[source["run"]]))


def _of_hub(source: dict[str, Any]) -> Shown:
    name, commit = source["dataset"], source["commit"]
    told = (("Configuration", source["config"]), ("Revision", source["revision"]))
    return Shown(
        "From the hub",
        f"{name} at {commit[:12]}",
        f"{settings.HF_ENDPOINT}/datasets/{quote(name)}/tree/{quote(commit, safe='')}",
        elsewhere=True,
        facts=[(title, value) for title, value in told if value],
    )


def as_json(dataset: Dataset) -> dict[str, Any] | None:
    """The same for scripts, without the list of files."""
    source = dataset.request.get("source")
    if not source:
        return None
    return {key: value for key, value in source.items() if key != "files"}


def findings(dataset: Dataset) -> list[Problem]:
    """What is to be known of it beside what is found in its rows."""
    source = dataset.request.get("source", {})
    return hub_fetch.left_out(source) if source.get("kind") == "hub" else []
