"""The README.md of a model folder: what it was made of, how well it does, how to use it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING

from runs.training.context import Context

if TYPE_CHECKING:
    from runs.training.exports import Packaged

LIBRARIES = ("torch", "transformers", "peft", "timm", "datasets", "accelerate", "scikit-learn", "trl")


def model_card(context: Context, packaged: Packaged) -> str:
    """Markdown with the Hub's front matter. Names that people chose are quoted, never formatting."""
    spec, task = context.spec, packaged.task
    front = {"library_name": "transformers", "pipeline_tag": task.slug}
    if spec.model.licence:
        front["license"] = spec.model.licence.lower()
    method = task.method(spec.method)
    sections = [
        "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in front.items()) + "---\n",
        f"# {_plain(spec.model.name)}, fine-tuned for {task.title.lower()}\n",
        _facts(context, method.title),
        f"{method.summary} {packaged.note}".strip() + "\n",
        "## How well it does\n",
        _scores(packaged),
        "## How to use it\n",
        f"```python\n{packaged.usage.strip()}\n```\n",
    ]
    if packaged.labels is not None:
        sections += ["## Classes\n", "\n".join(f"- {_plain(label)}" for label in packaged.labels) + "\n"]
    sections += ["## Settings\n", _table(("setting", "value"), context.settings)]
    sections += ["## Made with\n", _table(("library", "version"), versions())]
    return "\n".join(sections)


def versions() -> dict[str, str]:
    """Of Python and the libraries that had a part."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _facts(context: Context, method: str) -> str:
    spec = context.spec
    revision = f", revision {_plain(spec.model.revision)}" if spec.model.revision else ""
    rows = ", ".join(f"{count:,} {split}" for split, count in spec.dataset.splits.items())
    facts = {
        "Base model": f"{_plain(spec.model.name)} ({_plain(spec.model.reference)}{revision})",
        "Licence of the base model": _plain(spec.model.licence) or "not stated",
        "Dataset": f"{_plain(spec.dataset.name)} ({rows} rows)",
        "Content hash of the dataset": _plain(spec.dataset.content_hash),
        "Columns": ", ".join(f"{role}: {_plain(column)}" for role, column in spec.columns.items()),
        "Method": method,
    }
    return _table(("", ""), facts)


def _scores(packaged: Packaged) -> str:
    split = "test" if any(not name.startswith("validation_") for name in packaged.metrics) else "validation"
    lines = [f"| metric | this model | {_plain(packaged.baseline_title).lower()} |", "| --- | --- | --- |"]
    for name, value in packaged.metrics.items():
        other = packaged.baseline.get(name)
        lines.append(f"| {name} | {value:.4f} | {'–' if other is None else f'{other:.4f}'} |")
    return "\n".join([*lines, "", f"Metrics without a split in front are of the {split} rows.", ""])


def _table(head: tuple[str, str], rows: Mapping[str, object]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {_plain(str(value))} |" for name, value in rows.items()), ""])


def _plain(text: str) -> str:
    """People's words, without what Markdown or HTML would make of them."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
