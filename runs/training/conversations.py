"""Rows of a language dataset as token ids, with labels on what the model is to say and on nothing else.

A conversation is put through the model's chat template as text, each assistant turn's place in that text
is found, and the whole is tokenised once: so the ids are those that the model will see in use, and the
loss covers the answers, each with its end-of-turn token, and no part of a prompt. A token that is part
prompt and part answer (two line breaks in one) carries none: in use the model is never asked for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset
from jinja2 import TemplateError

from runs.training.context import Context
from runs.training.data import bad_row
from runs.training.events import TrainingFailure

IGNORED = -100
ROLES = ("system", "user", "assistant")
# For models that bring no template: plain words, so that no token is new to them.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'].capitalize() + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


@dataclass(frozen=True)
class Sample:
    """A prompt as the model gets it, and what the row says should follow."""

    shown: str  # to people
    text: str  # to the model
    expected: str


class Conversations:
    """How rows of one run become examples."""

    def __init__(self, context: Context, tokenizer: Any, max_length: int) -> None:
        self.context, self.tokenizer, self.max_length = context, tokenizer, max_length
        self.columns = context.spec.columns
        self.kept: dict[str, list[int]] = {}  # {split: numbers of the rows that became examples}
        if not tokenizer.is_fast:
            raise TrainingFailure(
                "model_unavailable",
                f"{context.spec.model.name} has no fast tokenizer, which is needed to find the answers.",
                "Choose a model with a tokenizer.json.",
            )
        if not tokenizer.chat_template and "text" not in self.columns:
            tokenizer.chat_template = PLAIN_TEMPLATE

    def examples(self, split: str, rows: Dataset) -> Dataset:
        """Dataset of input_ids and labels; rows whose answer does not fit into max_length are left out, and counted."""
        made: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
        kept: list[int] = []
        self.kept[split] = kept
        cut = lost = hidden = 0
        for number in range(len(rows)):
            ids, labels, hidden_turns = self._tokens(split, number, self._row(rows, number))
            hidden += hidden_turns
            if len(ids) > self.max_length:
                cut += 1
                ids, labels = ids[: self.max_length], labels[: self.max_length]
            labels[:1] = [IGNORED]  # predicted from nothing
            if all(label == IGNORED for label in labels):
                lost += 1
                continue
            kept.append(number)
            made["input_ids"].append(ids)
            made["labels"].append(labels)
        if cut:
            self.context.message(
                f"{cut:,} of {len(rows):,} {split} rows are longer than {self.max_length:,} tokens and were cut."
            )
        if lost:
            self.context.message(
                f"{lost:,} {split} rows have no answer within {self.max_length:,} tokens and are left out."
            )
        if hidden:
            self.context.message(
                f"{hidden:,} earlier answers of {split} rows are not learnt: the model's chat template changes them "
                "once the conversation goes on."
            )
        if not made["input_ids"]:
            raise TrainingFailure(
                "bad_data",
                f"No {split} row has an answer within {self.max_length:,} tokens.",
                "Raise the longest text, or shorten the prompts.",
            )
        return Dataset.from_dict(made)

    def samples(self, rows: Dataset, numbers: Sequence[int], split: str) -> list[Sample]:
        """Prompts for these rows."""
        return [self._sample(split, number, self._row(rows, number)) for number in numbers]

    # -- one row -----------------------------------------------------------------------------------
    def _tokens(self, split: str, number: int, row: dict[str, Any]) -> tuple[list[int], list[int], int]:
        """(ids, labels, answers that the template hides)."""
        if "text" in self.columns:
            text = self._text(split, number, row, "text")
            ids = list(self.tokenizer(text).input_ids)
            if self.tokenizer.eos_token_id is not None and ids[-1:] != [self.tokenizer.eos_token_id]:
                ids.append(self.tokenizer.eos_token_id)
            return ids, list(ids), 0
        messages = self._messages(split, number, row)
        column = self.columns.get("messages", self.columns.get("prompt", ""))
        try:
            text, answers, hidden = self._rendered(messages)
        except TemplateError as error:
            raise bad_row(
                split,
                number,
                column,
                f"the model's chat template refuses it: {error}",
                "Give the messages the roles and the order that the model knows, or choose another model.",
            ) from error
        if not answers:
            raise bad_row(
                split,
                number,
                column,
                "the model's chat template changes the answer beyond recognition",
                "Choose another model, or plain texts as the column.",
            )
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(encoded.input_ids)
        labels = [
            token if start < end and any(first <= start < last for first, last in answers) else IGNORED
            for token, (start, end) in zip(ids, encoded.offset_mapping, strict=True)
        ]
        return ids, labels, hidden

    def _rendered(self, messages: list[dict[str, str]]) -> tuple[str, list[tuple[int, int]], int]:
        """The conversation as the template writes it, where in it the assistant speaks, and how many answers are not found.

        An answer is not found where the template rewrites it once other messages follow, as those of
        models that think aloud do.
        """
        whole = self._template(messages)
        spans, hidden = [], 0
        for turn, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            until = self._template(messages[: turn + 1])
            before = self._template(messages[:turn], add_generation_prompt=True) if turn else ""
            if turn and until.startswith(before):
                start = len(before)
            else:  # nothing came before, or the prompt for an answer is not how an answer begins
                start = until.rfind(message["content"].strip())
            if start < 0 or not whole.startswith(until):
                hidden += 1
                continue
            # What a template writes behind the end of the turn, such as a line break, is not said.
            spans.append((start, len(until.rstrip())))
        return whole, spans, hidden

    def _template(self, messages: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def _sample(self, split: str, number: int, row: dict[str, Any]) -> Sample:
        if "text" in self.columns:
            words = self._text(split, number, row, "text").split(" ")
            half = max(1, min(len(words) // 2, 40))
            start = " ".join(words[:half])
            return Sample(start, start, " ".join(words[half:]))
        messages = self._messages(split, number, row)
        last = max(turn for turn, message in enumerate(messages) if message["role"] == "assistant")
        asked = messages[:last]
        text = self._template(asked, add_generation_prompt=True)
        shown = (
            asked[-1]["content"]
            if len(asked) == 1
            else "\n".join(f"{m['role']}: {m['content']}" for m in asked)
        )
        return Sample(shown, text, messages[last]["content"])

    # -- cells -------------------------------------------------------------------------------------
    def _row(self, rows: Dataset, number: int) -> dict[str, Any]:
        """One row, with the names of labels in the place of their numbers."""
        row = dict(rows[number])
        for column in self.columns.values():
            feature, value = rows.features[column], row[column]
            if isinstance(feature, ClassLabel) and value is not None:
                row[column] = feature.names[value] if 0 <= value < feature.num_classes else None
        return row

    def _messages(self, split: str, number: int, row: dict[str, Any]) -> list[dict[str, str]]:
        if "messages" not in self.columns:
            prompt = self._text(split, number, row, "prompt")
            completion = self._text(split, number, row, "completion")
            return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
        column = self.columns["messages"]
        cell = row[column]
        if isinstance(cell, str):
            try:
                cell = json.loads(cell)
            except ValueError:
                raise bad_row(split, number, column, "the conversation is no valid JSON") from None
        if not isinstance(cell, list) or not cell:
            raise bad_row(split, number, column, "the conversation is missing or empty")
        messages = [self._message(split, number, column, turn, item) for turn, item in enumerate(cell, 1)]
        # Some data sets give every conversation a system message, often an empty one.
        messages = [message for message in messages if message["content"].strip()]
        if all(message["role"] != "assistant" for message in messages[1:]):
            raise bad_row(
                split,
                number,
                column,
                "no message of the assistant answers another: there is nothing to learn",
            )
        return messages

    def _message(self, split: str, number: int, column: str, turn: int, item: Any) -> dict[str, str]:
        if not isinstance(item, dict) or not isinstance(item.get("content"), str):
            raise bad_row(split, number, column, f"message {turn} has no text")
        if item.get("role") not in ROLES:
            raise bad_row(
                split,
                number,
                column,
                f"message {turn} is from {item.get('role')!r}",
                f"Use one of: {', '.join(ROLES)}.",
            )
        if not item["content"].strip() and item["role"] != "system":
            raise bad_row(split, number, column, f"message {turn} is empty")
        return {"role": item["role"], "content": item["content"]}

    def _text(self, split: str, number: int, row: dict[str, Any], role: str) -> str:
        column = self.columns[role]
        text = row[column]
        if not isinstance(text, str) or not text.strip():
            raise bad_row(split, number, column, f"the {role} is {'missing' if text is None else 'empty'}")
        return text
