"""Batches of token ids, one row a line, or several rows on a line (packing) so that nothing is padding.

Rows on one line must not see each other. With PyTorch's attention transformers keeps them apart by
positions that start again at 0, but only where no attention mask is given and no cache is used; the
padding at a line's end is one more row of its own, without labels. Not every architecture does so:
`keeps_rows_apart` tries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from runs.training.conversations import IGNORED


def packed(rows: Dataset, max_length: int) -> Dataset:
    """Rows put on lines of at most `max_length` tokens (best fit, decreasing): input_ids, labels, seq_lengths."""
    from trl import pack_dataset

    return pack_dataset(rows, max_length, strategy="bfd")


def keeps_rows_apart(model: Any) -> bool:
    """Whether this model says the same about a row whatever stands before it on the line."""
    first, second = [5, 6, 7, 8], [9, 10, 11]
    where = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad():
        line = model(
            input_ids=torch.tensor([first + second], device=where),
            position_ids=torch.tensor([[*range(len(first)), *range(len(second))]], device=where),
            use_cache=False,
        ).logits[0, len(first) :]
        alone = model(input_ids=torch.tensor([second], device=where), use_cache=False).logits[0]
    model.train(was_training)
    return bool(torch.allclose(line, alone, atol=1e-3, rtol=1e-3))


@dataclass(frozen=True)
class Collator:
    """Examples to tensors [batch, tokens]: with an attention mask, or packed with positions."""

    pad_token_id: int
    max_length: int  # a model with learned positions reads no further
    multiple_of: int = 8  # what tensor cores like

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(example["input_ids"]) for example in examples)
        width = max(longest, min(-(-longest // self.multiple_of) * self.multiple_of, self.max_length))
        batch = {
            "input_ids": self._padded(examples, "input_ids", self.pad_token_id, width),
            "labels": self._padded(examples, "labels", IGNORED, width),
        }
        if "seq_lengths" not in examples[0]:
            # By length, not by id: a pad token is often the end-of-text token too, which is real at the end.
            lengths = torch.tensor([len(example["input_ids"]) for example in examples])
            batch["attention_mask"] = (torch.arange(width)[None, :] < lengths[:, None]).long()
            return batch
        positions = [
            [place for length in self._lengths(example, width) for place in range(length)]
            for example in examples
        ]
        batch["position_ids"] = torch.tensor(positions)
        return batch

    def _padded(self, examples: list[dict[str, Any]], name: str, filler: int, width: int) -> torch.Tensor:
        return torch.tensor(
            [list(example[name]) + [filler] * (width - len(example[name])) for example in examples]
        )

    @staticmethod
    def _lengths(example: dict[str, Any], width: int) -> list[int]:
        lengths = list(example["seq_lengths"])
        rest = width - sum(lengths)
        return [*lengths, rest] if rest else lengths
