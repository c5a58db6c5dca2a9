"""How long the texts of a version are in tokens of a model, and what its tokenizer does not know.

It runs in the process of isolated.py: a tokenizer is a file that strangers wrote, too. Needs the `tokenizers` package,
which comes with training; no Django, no transformers in here.
"""

# Column names are quoted by `quoted`; splits are ours.
# ruff: noqa: S608
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from webapp.datasets import findings
from webapp.datasets.columns import Column
from webapp.datasets.findings import ROW, SPLIT
from webapp.datasets.findings.hashed import worded, words
from webapp.datasets.problems import Refused

MOST_ROWS = 200_000  # of more, every n-th is counted
MOST_CHARACTERS = 1_000_000  # of a text; what is longer is at least so long
AT_ONCE = 2_000_000  # characters that are tokenized at a time: a token takes about 100 bytes
BATCH = 2_048
LARGEST_TOKENIZER = 256 << 20  # bytes
TOLD = 12  # pieces that the tokenizer does not know
LOOKED_INTO = 2_000  # texts with such pieces whose pieces are counted
Report = Callable[[str, int, int], None]


@dataclass
class Order:
    """What is to be counted. `limit`: tokens that the model reads at most, if it has a limit."""

    files: dict[str, str]  # {split: Parquet}
    columns: list[dict[str, Any]]  # as DatasetVersion.columns
    roles: dict[str, str]
    tokenizer: str  # a tokenizer.json, or a GGUF file
    limit: int | None = None


@dataclass
class _Tally:
    """Of a column, or of all of a row together."""

    lengths: list[int] = field(default_factory=list)
    longest: tuple[int, str, int] = (-1, "", 0)  # tokens, split, row
    unknown_rows: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    example: tuple[str, int] | None = None  # of a row with unknown pieces

    def add(self, length: int, split: str, row: int) -> None:
        self.lengths.append(length)
        if length > self.longest[0] or (length == self.longest[0] and (split, row) < self.longest[1:]):
            self.longest = (length, split, row)  # of several the first, whatever the order they come in

    def as_json(self, name: str, limit: int | None) -> dict[str, Any]:
        lengths = np.array(self.lengths, np.int64)
        p50, p95 = np.percentile(lengths, (50, 95), method="nearest") if len(lengths) else (0, 0)
        return {
            "name": name,
            "rows": len(lengths),
            "p50": int(p50),
            "p95": int(p95),
            "max": max(0, self.longest[0]),
            "split": self.longest[1],
            "row": self.longest[2],
            "total": int(lengths.sum()),
            "cut": int((lengths > limit).sum()) if limit else None,
            "unknown": {
                "rows": self.unknown_rows,
                "pieces": [[piece, count] for piece, count in self.unknown.most_common(TOLD)],
                "split": self.example[0],
                "row": self.example[1],
            }
            if self.example
            else None,
        }


def count_tokens(order: Order, scratch: Path, report: Report) -> dict[str, Any]:
    """{rows, counted, limit, columns: [{name, rows, p50, p95, max, split, row, total, cut, unknown}], together}.

    `split` and `row` are of the longest; `cut`: how many are longer than the limit; `unknown`: {rows, pieces [[text, how
    often]], split, row} or None; `together`: the same of each row's texts in one, None where there is one column. What the
    tokenizer itself puts around a text is counted, what a chat template would add is not. Raises Refused.
    """
    tokenizer = open_tokenizer(Path(order.tokenizer))
    unknown = unknown_id(tokenizer)
    columns = [Column(each["name"], each["kind"], each.get("nulls", 0)) for each in order.columns]
    files = {split: Path(path) for split, path in order.files.items()}
    with findings.opened(files, columns, order.roles, scratch) as rows:
        texts = worded(rows)
        if not texts:
            raise Refused("no_texts", "No column that a model reads has texts.", "Choose another mapping.")
        total = sum(rows.splits.values())
        step = -(-total // MOST_ROWS) or 1
        named = ", ".join(
            f"left({words(column)}, {MOST_CHARACTERS}) AS text{n}" for n, column in enumerate(texts)
        )
        tallies, together, counted = [_Tally() for _ in texts], _Tally(), 0
        query = f"SELECT {SPLIT} AS split, {ROW} AS row, {named} FROM rows WHERE ({ROW} - 1) % {step} = 0"
        for batch in rows.connection.sql(query).to_arrow_reader(BATCH):
            places = list(
                zip(batch.column("split").to_pylist(), batch.column("row").to_pylist(), strict=True)
            )
            sums = np.zeros(batch.num_rows, np.int64)
            for n, tally in enumerate(tallies):
                lengths = _count(tokenizer, unknown, batch.column(f"text{n}").to_pylist(), places, tally)
                sums += lengths
            for length, (split, row) in zip(sums.tolist(), places, strict=True):
                together.add(length, split, row)
            counted += batch.num_rows
            report("counting tokens", counted, -(-total // step))
    return {
        "rows": total,
        "counted": counted,
        "limit": order.limit,
        "columns": [
            tally.as_json(column.name, order.limit) for column, tally in zip(texts, tallies, strict=True)
        ],
        "together": together.as_json("", order.limit) if len(texts) > 1 else None,
    }


def _count(
    tokenizer: Any, unknown: int | None, texts: list[str | None], places: list[tuple[str, int]], tally: _Tally
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Tokens of each text, none of one that is missing; they are put into the tally."""
    lengths = np.zeros(len(texts), np.int64)
    there = [n for n, text in enumerate(texts) if text is not None]
    while there:
        held: list[int] = []
        size = 0
        while there and (not held or size + len(texts[there[0]] or "") <= AT_ONCE):
            size += len(texts[there[0]] or "")
            held.append(there.pop(0))
        for n, encoding in zip(held, tokenizer.encode_batch_fast([texts[n] for n in held]), strict=True):
            lengths[n] = len(encoding)
            tally.add(len(encoding), *places[n])
            if unknown is not None and unknown in encoding.ids:
                _note_unknown(tokenizer, unknown, texts[n] or "", places[n], tally)
    return lengths


def _note_unknown(tokenizer: Any, unknown: int, text: str, place: tuple[str, int], tally: _Tally) -> None:
    tally.unknown_rows += 1
    tally.example = min(tally.example or place, place)
    if tally.unknown_rows <= LOOKED_INTO:
        encoding = tokenizer.encode(text)
        spans = [
            span for number, span in zip(encoding.ids, encoding.offsets, strict=True) if number == unknown
        ]
        tally.unknown.update(text[begin:end][:40] for begin, end in spans if end > begin)


def open_tokenizer(path: Path) -> Any:
    """A tokenizers.Tokenizer that cuts and pads nothing; raises Refused."""
    try:
        import tokenizers
    except ImportError as error:
        raise Refused(
            "no_tokenizers",
            "This worker has no library that counts tokens: training is not installed on its host.",
            "Start a worker on a host with training installed (make install), and count again.",
        ) from error
    if path.stat().st_size > LARGEST_TOKENIZER and path.suffix != ".gguf":
        raise _unreadable("it is larger than any tokenizer")
    try:
        made = _of_gguf(path) if path.suffix == ".gguf" else tokenizers.Tokenizer.from_file(str(path))
    except Refused:
        raise
    except Exception as error:  # the library has no other for a file that it cannot read
        raise _unreadable(str(error).splitlines()[0][:200] if str(error) else "it is damaged") from error
    made.no_truncation()
    made.no_padding()
    return made


def _unreadable(why: str) -> Refused:
    return Refused(
        "bad_tokenizer",
        f"The model's tokenizer cannot be read: {why}.",
        "Choose another model, or add this one again with a tokenizer.json that `save_pretrained` wrote.",
    )


def _of_gguf(path: Path) -> Any:
    """Of a file whose vocabulary is byte pairs as GPT-2 has them, which transformers builds in the same way."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise _unreadable(
            "it lies in a GGUF file, and the package gguf is not installed on this host"
        ) from error
    fields = GGUFReader(path).fields

    def texts(name: str) -> list[str]:
        found = fields[f"tokenizer.ggml.{name}"]
        return [bytes(found.parts[place]).decode() for place in found.data]

    if texts("model") != ["gpt2"]:
        raise _unreadable(f"its kind ({', '.join(texts('model'))}) is not known here")
    tokens, kinds = texts("tokens"), fields["tokenizer.ggml.token_type"]
    merges = [(one, other) for one, _, other in (merge.partition(" ") for merge in texts("merges"))]
    made = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = 3  # of GGUF's kinds of tokens: one of control
    made.add_special_tokens(
        [token for token, place in zip(tokens, kinds.data, strict=True) if kinds.parts[place][0] == special]
    )
    return made


def unknown_id(tokenizer: Any) -> int | None:
    """The number that stands for what the tokenizer does not know; None if there is nothing that it does not know."""
    if type(tokenizer.model).__name__ == "Unigram":
        number = json.loads(tokenizer.to_str())["model"].get("unk_id")
        return int(number) if number is not None else None
    token = getattr(tokenizer.model, "unk_token", None)
    found: int | None = tokenizer.token_to_id(token) if token else None
    return found
