"""What a button beside a finding does: the change that is the obvious answer to it (edits/)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from webapp.datasets.edits.rows import LEAKS, OF_A_COLUMN
from webapp.datasets.models import DatasetVersion

OTHER = "other"
ENOUGH = 3  # rows of a class; with fewer it is rare (writing.py)
Column = dict[str, Any]
NEEDED = dict.fromkeys(LEAKS, ("split",)) | dict.fromkeys(OF_A_COLUMN, ("column",))


@dataclass(frozen=True)
class Fix:
    """A button. `change`: as changing.request_change takes it."""

    label: str
    change: dict[str, Any]

    @property
    def as_json(self) -> str:
        return json.dumps(self.change, ensure_ascii=False)


def fixes_of(problem: dict[str, Any], version: DatasetVersion) -> list[Fix]:
    """Those of one finding, the most usual first; none where a person has to decide what is right."""
    column = next((each for each in version.columns if each["name"] == problem.get("column")), None)
    code = problem["code"]
    found = {
        "op": "drop_found",
        "code": code,
        **{
            name: problem[name]
            for name in ("column", "split")
            if problem.get(name) and name in NEEDED.get(code, ())
        },
    }
    match code:
        case "leakage" | "near_leakage" | "similar_leakage" | "picture_leakage":
            return [Fix("Drop them from the rows to train on", found)]
        case "duplicates" | "near_duplicates" | "similar_texts" | "similar_pictures":
            return [Fix("Keep one of each", found)]
        case "conflicting_labels":
            return [Fix("Drop these rows", found)]
        case "short_texts" | "missing_values" | "answers_elsewhere" if column:
            return [Fix("Drop these rows", found)]
        case "mask_values" if column and (unknown := column.get("unknown") or {}).get("masks"):
            # Where not all are named, some would stay without their finding.
            return [] if unknown["more"] else [Fix("Drop these rows", found)]
        case "similar_labels" if column and len(problem.get("values") or []) > 1:
            kept, *others = problem["values"]
            merge = {"op": "merge_labels", "column": column["name"], "labels": others, "into": kept}
            return [Fix(f"Write all of them as “{kept}”", merge)]
        case "mixed_rates" if column:
            return [Fix("Resample all to 16,000 a second", {"op": "resample", "column": column["name"]})]
        case "unbalanced" if column:
            return _caps(column)
        case "rare_classes" if column:
            return _rare(column)
        case "personal_email" | "personal_telephone" | "personal_card" if column:
            mask = {"op": "mask_personal", "column": column["name"]}
            return [Fix("Mask them in the rows", mask), Fix("Drop these rows", found)]
    return []


def _counts(column: Column) -> dict[str, int]:
    counts: dict[str, int] = {}
    for split in (column.get("counts") or {}).values():
        for name, count in split.items():
            counts[name] = counts.get(name, 0) + count
    return {name: count for name, count in counts.items() if count and name in (column.get("names") or [])}


def _caps(column: Column) -> list[Fix]:
    """So many of the largest class to train on as of the next, or as twice the smallest if that is more."""
    train = (column.get("counts") or {}).get("train") or {}
    sizes = sorted(count for name, count in train.items() if name in (column.get("names") or []) and count)
    if len(sizes) < 2:
        return []
    most = max(sizes[-2], 2 * sizes[0])
    if most >= sizes[-1]:
        return []
    change = {"op": "cap_class", "column": column["name"], "most": most}
    return [Fix(f"Train on at most {most:,} of each class", change)]


def _rare(column: Column) -> list[Fix]:
    counts = _counts(column)
    rare = sorted(name for name, count in counts.items() if count < ENOUGH)
    if not rare or len(counts) - len(rare) < 1:
        return []
    fixes = []
    if len(rare) > 1 and sum(counts[name] for name in rare) >= ENOUGH and OTHER not in counts:
        merge = {"op": "merge_labels", "column": column["name"], "labels": rare, "into": OTHER}
        fixes.append(Fix(f"Join them as “{OTHER}”", merge))
    if len(counts) - len(rare) > 1:
        fixes.append(Fix("Drop their rows", {"op": "drop_labels", "column": column["name"], "labels": rare}))
    return fixes
