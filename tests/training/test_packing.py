"""Rows that share a line train exactly as rows that do not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset

from runs.training.conversations import IGNORED
from runs.training.packing import Collator, keeps_rows_apart, packed

from .talking import language_model

PAD = 2
SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
}


def some_rows(count: int) -> Dataset:
    chance = random.Random(5)
    ids = [[chance.randrange(3, 200) for _ in range(chance.randint(3, 30))] for _ in range(count)]
    return Dataset.from_dict(
        {"input_ids": ids, "labels": [[IGNORED, IGNORED, *row[2:]] for row in ids]},
    )


def loss_and_gradients(model: Any, batch: dict[str, torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED
    )
    loss.backward()
    return loss.item(), [parameter.grad.clone() for parameter in model.parameters()]


def test_every_row_is_whole_on_one_line() -> None:
    rows = some_rows(40)
    lines = packed(rows, 64)
    assert len(lines) < 20
    found = []
    for line in lines:
        assert len(line["input_ids"]) == sum(line["seq_lengths"]) <= 64
        start = 0
        for length in line["seq_lengths"]:
            found.append(line["input_ids"][start : start + length])
            start += length
    assert sorted(found) == sorted(rows["input_ids"])


def test_packed_rows_have_the_loss_and_gradients_of_rows_by_themselves(tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(language_model(tmp_path).reference).eval()
    rows = some_rows(12)
    collate = Collator(PAD, 64)
    apart = loss_and_gradients(model, collate(list(rows)))
    together = loss_and_gradients(model, collate(list(packed(rows, 64))))
    assert together[0] == pytest.approx(apart[0], abs=1e-6)
    for one, other in zip(together[1], apart[1], strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_pad_token_that_is_the_end_token_too_is_masked_by_place_not_by_id() -> None:
    batch = Collator(PAD, 64)(
        [{"input_ids": [5, 6, PAD], "labels": [IGNORED, 6, PAD]}, {"input_ids": [5] * 9, "labels": [5] * 9}]
    )
    assert batch["input_ids"].shape == (2, 16)
    assert batch["attention_mask"][0].tolist() == [1, 1, 1] + [0] * 13
    assert batch["labels"][0].tolist() == [IGNORED, 6, PAD] + [IGNORED] * 13


def test_padding_never_goes_beyond_what_the_model_reads() -> None:
    rows = [{"input_ids": [5] * 13, "labels": [5] * 13}]
    assert Collator(PAD, 14)(rows)["input_ids"].shape == (1, 14)


@pytest.mark.parametrize(
    ("config", "apart"),
    [
        (transformers.LlamaConfig(**SMALL), True),
        (transformers.Qwen2Config(**SMALL), True),
        (transformers.BloomConfig(vocab_size=40, hidden_size=16, n_layer=2, n_head=2), False),
        (transformers.MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, state_size=4), False),
    ],
)
def test_models_whose_rows_would_see_each_other_are_told(config: Any, apart: bool) -> None:
    torch.manual_seed(0)
    assert keeps_rows_apart(transformers.AutoModelForCausalLM.from_config(config)) is apart
