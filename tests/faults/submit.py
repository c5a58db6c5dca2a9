"""Run in a cluster's environment: makes what a run needs there, submits one, and prints its id.

With --serve it goes on: a line {"kind": …, "settings": {…}} or {"retry": id} on standard input is answered by
a line with an id, through outages of the database.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
django.setup()

from runs import lifecycle
from runs.execution.outages import through_outages
from runs.models import Run
from tests.runs.execution.stored import Rows, store_rows
from webapp import storage
from webapp.accounts.models import Workspace
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion

GOOD = ("good", "fine", "great", "lovely", "superb")
BAD = ("bad", "poor", "awful", "dreadful", "dull")


def main() -> None:
    if sys.argv[1:] != ["--serve"]:
        print(submit(sys.argv[1], json.loads(sys.argv[2])))
        return
    for line in sys.stdin:
        asked = json.loads(line)
        if "retry" in asked:
            answer = through_outages(partial(retry, asked["retry"]), give_up=lambda: False)
        else:
            # By its name a run is known that was submitted although the answer was lost.
            once = partial(submit_once, uuid.uuid4().hex, asked["kind"], asked["settings"])
            answer = through_outages(once, give_up=lambda: False)
        print(answer, flush=True)


def retry(run: int) -> int:
    """Press "Try again"; where an answer was lost it has been pressed before."""
    with contextlib.suppress(lifecycle.NotAllowed):
        lifecycle.retry(run, None)
    return run


def submit_once(mark: str, kind: str, changes: dict[str, Any]) -> int:
    """Submit a run unless the one with this mark in its name is there already."""
    there = Run.objects.filter(name=f"{kind} {mark}").first()
    return int(there.pk) if there else submit(kind, dict(changes), mark)


def submit(kind: str, changes: dict[str, Any], mark: str = "") -> int:
    spread = {name: changes.pop(name) for name in ("nodes", "processes", "strategy") if name in changes}
    workspace, _ = Workspace.objects.get_or_create(slug="lab", defaults={"name": "Lab"})
    model, _ = BaseModel.objects.get_or_create(
        slug="tiny",
        defaults={
            "name": "Tiny",
            "kind": "text-encoder",
            "source": "folder",
            "reference": reference(real=kind == "real"),
            "architecture": "BertModel",
        },
    )
    version = DatasetVersion.objects.first() or make_version(workspace)
    run = Run(
        workspace=workspace,
        name=f"{kind} {mark}".strip(),
        base_model=model,
        dataset_version=version,
        dataset_name="Words",
        dataset_hash=version.content_hash,
        task="text-classification",
        method="full",
        columns={"text": "text", "label": "label"},
        **spread,
        settings={**(defaults() if kind == "real" else {"seed": 7}), **changes},
        attempts_allowed=int(os.environ.get("TUNEBOARD_MAX_ATTEMPTS", "3")),
    )
    return int(lifecycle.submit(run, None).pk)


def defaults() -> dict[str, Any]:
    """Every setting of the task with its default, as a form would send it."""
    from runs.training.tasks import all_tasks

    task = next(task for task in all_tasks() if task.slug == "text-classification")
    return {setting.name: setting.default_for("full") for setting in task.settings_for("full")}


def make_version(workspace: Workspace) -> DatasetVersion:
    """Short reviews whose label follows from their words, in canonical form.

    Done again from any point where the database died, it leaves no files without a row.
    """
    dataset, _ = Dataset.objects.get_or_create(workspace=workspace, name="Words", status="ready")
    prefix = f"datasets/{dataset.pk}/versions/words"
    splits = {"train": 240, "validation": 40, "test": 40}
    chance = random.Random(5)
    rows = {split: some_rows(count, chance) for split, count in splits.items()}
    version: DatasetVersion = DatasetVersion.objects.create(
        dataset=dataset,
        content_hash=store_rows(prefix, splits=rows),
        storage_prefix=prefix,
        size_bytes=1,
        rows=sum(splits.values()),
        splits=splits,
        columns=[
            {"name": "text", "kind": "text"},
            {"name": "label", "kind": "label", "names": ["bad", "good"]},
        ],
    )
    Dataset.objects.filter(pk=dataset.pk).update(version=version)
    return version


def some_rows(count: int, chance: random.Random) -> Rows:
    labels = [number % 2 for number in range(count)]
    return [" ".join(chance.choices(GOOD if label else BAD, k=6)) for label in labels], labels


def reference(*, real: bool) -> str:
    """Of the base model: a folder of this machine, or of the storage where that is a bucket."""
    folder = Path(os.environ["TUNEBOARD_HOME"]) / "tiny"
    if real and not folder.exists():
        make_model(folder)
        if storage.local_path("models") is None:
            for path in folder.iterdir():
                storage.put(path, f"models/tiny/{path.name}")
    return "models/tiny" if real and storage.local_path("models") is None else str(folder)


def make_model(folder: Path) -> None:
    """A BERT with random weights that knows the words above."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)


if __name__ == "__main__":
    main()
