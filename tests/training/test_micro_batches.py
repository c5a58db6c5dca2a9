"""Rows that are accumulated over micro-batches teach what they teach as one batch, no more."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runs.training.spec import DatasetRef, ModelRef

from .conftest import QUICK, events_of, train_here


def test_two_micro_batches_are_one_batch_of_twice_the_size(
    tiny_model: Callable[[str], ModelRef], texts: DatasetRef, write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    given = tiny_model("bert")
    sober = tmp_path / "sober"  # without dropout, which draws other numbers for other batches
    shutil.copytree(given.reference, sober)
    config = json.loads((sober / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (sober / "config.json").write_text(json.dumps(config))
    model = dataclasses.replace(given, reference=str(sober))
    told = []
    for batch, accumulated in ((8, 1), (4, 2)):
        settings = {
            **QUICK,
            "max_steps": 8,
            "logging_steps": 1,
            "learning_rate": 5e-3,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulated,
        }
        workdir = write_spec(model, texts, "full", f"by-{batch}", settings=settings)
        assert train_here(workdir) == 0
        metrics = [event["values"] for event in events_of(workdir, "metric")]
        told.append([(each["loss"], each["grad_norm"]) for each in metrics if "loss" in each])
    assert len(told[0]) == len(told[1]) == 8
    for whole, parts in zip(*told, strict=True):
        assert parts == pytest.approx(whole, rel=1e-3)
