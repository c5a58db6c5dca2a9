"""Every shape in which people keep conversations ends as messages with role and content."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.webapp.datasets.conftest import refusal


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def repeated(row: dict[str, Any]) -> bytes:
    """Thirty rows of this shape, with a column of their own."""
    return lines(*({**row, "origin": f"page {n}"} for n in range(30)))


HELLO = said(("user", "Hi"), ("assistant", "Hello"))
SYSTEM = said(("system", "Be kind."))


@pytest.mark.parametrize(
    ("what", "row", "messages"),
    [
        ("OpenAI", {"messages": SYSTEM + HELLO}, SYSTEM + HELLO),
        ("OpenAI with parts", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Hello", "name": "x"}]}, HELLO),
        ("OpenAI with a call", {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": []}]}, HELLO + said(("assistant", ""))),
        ("ShareGPT", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, HELLO),
        ("ShareGPT with a system column", {"system": "Be kind.", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, SYSTEM + HELLO),
        ("Alpaca", {"instruction": "Translate.", "input": "ja", "output": "yes"}, said(("user", "Translate.\n\nja"), ("assistant", "yes"))),
        ("Alpaca without input", {"instruction": "Hi", "input": "", "output": "Hello"}, HELLO),
        ("Alpaca with history", {"instruction": "And?", "output": "Fine.", "history": [["Hi", "Hello"]]}, HELLO + said(("user", "And?"), ("assistant", "Fine."))),
        ("prompt and completion", {"prompt": "Hi", "completion": "Hello"}, HELLO),
        ("prompt and completion of messages", {"prompt": SYSTEM + HELLO[:1], "completion": HELLO[1:]}, SYSTEM + HELLO),
        ("self-instruct", {"instruction": "Hi", "instances": [{"input": "", "output": "Hello"}]}, HELLO),
    ],
)  # fmt: skip
def test_every_shape_becomes_messages_and_other_columns_stay(
    what: str, row: dict[str, Any], messages: Any, convert: Any
) -> None:
    made = convert(("a.jsonl", repeated(row)))
    name = "conversations" if "conversations" in row else "messages"
    kinds = {column["name"]: column["kind"] for column in made.columns}
    assert (kinds[name], kinds["origin"]) == ("messages", "text")
    assert not {"instruction", "input", "output", "prompt", "completion", "instances", "history"} & set(kinds)
    assert [each[name] for each in made.preview] == [messages] * len(made.preview)
    assert {each["code"] for each in made.problems} <= {"one_label"}


@pytest.mark.parametrize(
    ("what", "row"),
    [
        ("texts", {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}),
        ("answers as messages", {"prompt": "Hi", "chosen": HELLO[1:], "rejected": said(("assistant", "Go"))}),
        ("all as messages", {"prompt": HELLO[:1], "chosen": HELLO[1:], "rejected": said(("assistant", "Go"))}),
        ("whole conversations", {"chosen": HELLO, "rejected": said(("user", "Hi"), ("assistant", "Go"))}),
        ("whole conversations and the prompt", {"prompt": "Hi", "chosen": HELLO, "rejected": said(("user", "Hi"), ("assistant", "Go"))}),
    ],
)  # fmt: skip
def test_pairs_become_a_prompt_with_two_answers(what: str, row: dict[str, Any], convert: Any) -> None:
    made = convert(("a.jsonl", repeated(row)))
    assert {c["name"]: c["kind"] for c in made.columns} == {
        "prompt": "messages",
        "chosen": "messages",
        "rejected": "messages",
        "origin": "text",
    }
    first = made.preview[0]
    assert [first[name] for name in ("prompt", "chosen", "rejected")] == [
        HELLO[:1],
        HELLO[1:],
        said(("assistant", "Go")),
    ]


def test_an_instruction_with_several_instances_is_several_rows(convert: Any) -> None:
    instances = [{"input": letter, "output": letter.upper()} for letter in "abc"]
    made = convert(("a.jsonl", repeated({"instruction": "Write it large.", "instances": instances})))
    assert made.rows == 90


def test_conversations_in_parquet_are_the_same_messages(convert: Any) -> None:
    said = [[{"from": "human", "value": f"Hi {n}"}, {"from": "gpt", "value": "Hello"}] for n in range(30)]
    target = io.BytesIO()
    pq.write_table(pa.table({"conversations": said}), target)
    made = convert(("a.parquet", target.getvalue()))
    written = convert(("a.jsonl", lines(*({"conversations": each} for each in said))))
    assert made.content_hash == written.content_hash
    assert made.columns[0]["kind"] == "messages"


def test_rows_that_lack_an_answer_are_counted_as_missing(convert: Any) -> None:
    rows = [{"instruction": "Hi", "input": "", "output": "Hello" if n % 3 else ""} for n in range(30)]
    made = convert(("a.json", json.dumps(rows).encode()))
    assert made.columns[0]["nulls"] == 10
    assert [each["code"] for each in made.problems] == ["missing_values"]


def test_columns_that_the_uploader_names_stay_as_they_are(convert: Any) -> None:
    row = {"instruction": "Is it good?", "output": "yes"}
    data = lines(*({**row, "instruction": f"Is {n} good?"} for n in range(30)))
    made = convert(("a.jsonl", data), columns={"text": "instruction", "label": "output"})
    assert [column["name"] for column in made.columns] == ["instruction", "output"]


def test_a_task_that_takes_no_conversations_gets_the_columns(inspected: Any) -> None:
    data = lines(*({"instruction": f"Is {n} good?", "output": ("yes", "no")[n % 2]} for n in range(30)))
    dataset = inspected(("a.jsonl", data), task="text-classification")
    assert dataset.version.suggested["columns"] == {"text": "instruction", "label": "output"}
    assert inspected(("a.jsonl", data)).version.suggested["columns"] == {"messages": "messages"}


def test_real_instructions_are_suggested_for_text_generation(inspected: Any, shared_data: Path) -> None:
    version = inspected(shared_data / "instructions.jsonl").version
    assert version.rows == 175
    assert version.suggested["task"] == "text-generation"
    assert version.suggested["columns"] == {"messages": "messages"}
    assert version.details["files"][0]["shape"] == "self-instruct"


def test_translations_become_a_column_a_language(convert: Any) -> None:
    rows = [{"id": n, "translation": {"en": f"house {n}", "de": f"Haus {n}"}} for n in range(30)]
    made = convert(("a.json", json.dumps({"data": rows}).encode()))
    assert [(column["name"], column["kind"]) for column in made.columns] == [
        ("en", "text"),
        ("de", "text"),
        ("id", "integer"),
    ]


def test_real_translations_keep_their_languages(inspected: Any, shared_data: Path) -> None:
    version = inspected(shared_data / "multi30k-en-de.jsonl").version
    assert (version.rows, [column["name"] for column in version.columns]) == (6000, ["en", "de"])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"messages": HELLO}] * 4 + [{"messages": [{"role": "user"}]}], "“messages” in line 5: turn 1 has no text"),
        ([{"conversations": [{"from": "human", "value": "Hi"}]}] * 4 + [{"conversations": [{"value": "Hi"}, {"from": "gpt", "value": "x"}]}], "line 5: turn 1 does not say whose"),
        ([{"instruction": "Hi", "output": "Ho"}] * 4 + [{"instruction": "Hi", "output": ["Ho"]}], "“output” in line 5: holds a list"),
        ([{"prompt": HELLO[:1], "completion": HELLO[1:]}] * 4 + [{"prompt": [1], "completion": "x"}], "“prompt” in line 5: holds a list that is no"),
        ([{"instruction": "Hi", "output": "Ho", "history": []}] * 4 + [{"instruction": "Hi", "output": "Ho", "history": [["a"]]}], "“history” in line 5"),
        ([{"translation": {"en": "a", "de": "b"}}] * 4 + [{"translation": {"en": 1, "de": "b"}}], "“translation” in line 5"),
        ([{"prompt": "Hi", "chosen": "a", "rejected": "b"}] * 4 + [{"prompt": "Hi", "chosen": {"a": 1}, "rejected": "b"}], "“chosen” in line 5: holds a group"),
    ],
)  # fmt: skip
def test_a_turn_that_cannot_be_read_is_named_by_row(rows: list[Any], says: str, convert: Any) -> None:
    problem = refusal(convert, ("a.jsonl", lines(*rows)))
    assert (problem.code, problem.row) == ("bad_conversation", 5)
    assert says in problem.message
    as_list = refusal(convert, ("a.json", json.dumps(rows).encode()))
    assert (as_list.row, "entry 5" in as_list.message) == (5, True)
