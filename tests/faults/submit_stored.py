"""Run in a cluster's environment: puts a dataset and a base model into its storage and submits a run on them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
django.setup()

from runs import lifecycle
from runs.models import Run
from tests.runs.execution.stored import store_rows
from webapp import storage
from webapp.accounts.models import Workspace
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion


def main() -> None:
    changes: dict[str, Any] = json.loads(sys.argv[1])
    workspace, _ = Workspace.objects.get_or_create(slug="lab", defaults={"name": "Lab"})
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("config.json", "{}"), ("model.safetensors", "weights")):
            (Path(folder) / name).write_text(text)
            storage.put(Path(folder) / name, f"models/tiny/{name}")
    model = BaseModel.objects.create(
        slug="tiny", name="Tiny", kind="text-encoder", source="folder", reference="models/tiny"
    )
    dataset = Dataset.objects.create(workspace=workspace, name="Words", status="ready")
    prefix = f"datasets/{dataset.pk}/versions/words"
    version = DatasetVersion.objects.create(
        dataset=dataset,
        content_hash=store_rows(prefix),
        storage_prefix=prefix,
        size_bytes=1,
        rows=24,
        splits={"train": 20, "test": 4},
        columns=[],
    )
    run = Run(
        workspace=workspace,
        name="stored",
        base_model=model,
        dataset_version=version,
        dataset_name="Words",
        dataset_hash=version.content_hash,
        task="text-classification",
        method="full",
        columns={"text": "text", "label": "label"},
        settings={"seed": 7, **changes},
    )
    print(lifecycle.submit(run, None).pk)


if __name__ == "__main__":
    main()
