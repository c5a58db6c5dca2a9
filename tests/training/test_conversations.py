"""What a language model learns from a row: the answers, each with its end, and no part of a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from runs.training.context import Context
from runs.training.conversations import IGNORED, Conversations
from runs.training.events import TrainingFailure
from runs.training.spec import DatasetRef, ModelRef, RunSpec

from .conftest import events_of
from .talking import CHATML, roles, tokenizer

MODEL = ModelRef("talker", "text-decoder", "folder", "/nowhere")
USER = {"role": "user", "content": "What colour is the sky?"}
BOT = {"role": "assistant", "content": "It is blue."}


def conversations(
    workdir: Path, columns: dict[str, str], template: str | None = CHATML, max_length: int = 128
) -> Conversations:
    spec = RunSpec(
        run_id="1",
        attempt=1,
        task="text-generation",
        method="full",
        columns=columns,
        model=MODEL,
        dataset=DatasetRef("Talks", "/nowhere", "0" * 64, {}),
        settings={},
        cache_dir="/nowhere",
    )
    return Conversations(Context(workdir, spec), tokenizer(template), max_length)


def learnt(talks: Conversations, rows: dict[str, list[Any]], features: Features | None = None) -> list[str]:
    """The words under labels, row by row; several stretches are parted by a bar."""
    found = []
    for example in talks.examples("train", Dataset.from_dict(rows, features=features)):
        text, before = "", False
        for token, label in zip(example["input_ids"], example["labels"], strict=True):
            assert label in (token, IGNORED)
            if label != IGNORED:
                text += ("" if before or not text else "|") + talks.tokenizer.decode([token])
            before = label != IGNORED
        found.append(text)
    return found


def test_only_the_answers_are_learnt_each_with_its_end_of_turn(tmp_path: Path) -> None:
    talks = conversations(tmp_path, roles("messages"))
    again = {"role": "user", "content": "And grass?"}
    green = {"role": "assistant", "content": "Green."}
    rows = {
        "messages": [
            [USER, BOT],
            [{"role": "system", "content": "Be short."}, USER, BOT, again, green],
        ]
    }
    assert learnt(talks, rows) == [
        "It is blue.<|im_end|>",
        "It is blue.<|im_end|>|Green.<|im_end|>",
    ]


def test_ids_are_those_the_model_sees_in_use(tmp_path: Path) -> None:
    talks = conversations(tmp_path, roles("messages"))
    row = talks.examples("train", Dataset.from_dict({"messages": [[USER, BOT]]}))[0]
    (sample,) = talks.samples(Dataset.from_dict({"messages": [[USER, BOT]]}), [0], "train")
    prompt = talks.tokenizer(sample.text, add_special_tokens=False).input_ids
    assert row["input_ids"][: len(prompt)] == prompt
    assert row["labels"][: len(prompt)] == [IGNORED] * len(prompt)
    assert row["labels"][len(prompt)] != IGNORED


@pytest.mark.parametrize("template", [CHATML, None])
def test_the_three_ways_to_write_a_conversation_are_one(tmp_path: Path, template: str | None) -> None:
    pairs = {"prompt": [USER["content"]], "completion": [BOT["content"]]}
    written = [
        conversations(tmp_path, roles("prompt"), template).examples("train", Dataset.from_dict(pairs)),
        *(
            conversations(tmp_path, roles("messages"), template).examples(
                "train", Dataset.from_dict({"messages": [cell]})
            )
            for cell in ([USER, BOT], json.dumps([USER, BOT]))
        ),
    ]
    assert written[0].to_dict() == written[1].to_dict() == written[2].to_dict()


def test_a_model_without_a_template_gets_plain_words(tmp_path: Path) -> None:
    talks = conversations(tmp_path, roles("messages"), template=None)
    assert learnt(talks, {"messages": [[USER, BOT]]}) == [" It is blue.<|im_end|>"]
    assert talks.tokenizer.chat_template  # it is saved with the model, so that it is used alike


def test_of_plain_texts_everything_is_learnt_but_the_first_token(tmp_path: Path) -> None:
    talks = conversations(tmp_path, roles("text"))
    row = talks.examples("train", Dataset.from_dict({"text": ["It is blue."]}))[0]
    assert row["labels"] == [IGNORED, *row["input_ids"][1:]]
    assert row["input_ids"][-1] == talks.tokenizer.eos_token_id


def test_a_token_that_is_part_prompt_and_part_answer_is_not_learnt(tmp_path: Path) -> None:
    template = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] + '\n' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    talks = conversations(tmp_path, roles("prompt"), template)
    pieces = talks.tokenizer.tokenize("a\n\n\nb")
    assert len(pieces) == 4, "the tokenizer of this test reads two of the line breaks as one token"
    rows = {"prompt": ["a"], "completion": ["\n\nb"]}
    assert learnt(talks, rows) == ["\nb<|im_end|>"]


def test_a_conversation_may_begin_with_the_assistant(tmp_path: Path) -> None:
    hello = {"role": "assistant", "content": "Hello."}
    talks = conversations(tmp_path, roles("messages"))
    assert learnt(talks, {"messages": [[hello, USER, BOT]]}) == ["Hello.<|im_end|>|It is blue.<|im_end|>"]


def test_answers_that_a_template_rewrites_later_are_left_out_and_counted(tmp_path: Path) -> None:
    # As the templates of models that think aloud: only the last answer keeps all of its words.
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}{{ 'A: …' }}"
        "{% elif m['role'] == 'assistant' %}{{ 'A:' + m['content'] + eos_token }}"
        "{% else %}{{ 'Q:' + m['content'] }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
    )
    talks = conversations(tmp_path, roles("messages"), template)
    assert learnt(talks, {"messages": [[USER, BOT, USER, BOT]]}) == ["It is blue.<|im_end|>"]
    assert "1 earlier answers of train rows are not learnt" in events_of(tmp_path, "message")[0]["text"]


def test_long_rows_are_cut_and_those_without_an_answer_left_are_left_out(tmp_path: Path) -> None:
    talks = conversations(tmp_path, roles("prompt"), max_length=30)
    rows = {
        "prompt": ["a", "a " * 40, "a"],
        "completion": ["b", "b", "b " * 60],
    }
    found = talks.examples("train", Dataset.from_dict(rows))
    assert len(found) == 2
    assert max(map(len, found["input_ids"])) == 30
    told = [event["text"] for event in events_of(tmp_path, "message")]
    assert told == [
        "2 of 3 train rows are longer than 30 tokens and were cut.",
        "1 train rows have no answer within 30 tokens and are left out.",
    ]


def test_no_row_with_an_answer_is_a_reason_to_stop(tmp_path: Path) -> None:
    talks = conversations(tmp_path, roles("prompt"), max_length=30)
    with pytest.raises(TrainingFailure, match="No train row has an answer within 30 tokens") as caught:
        talks.examples("train", Dataset.from_dict({"prompt": ["a " * 40], "completion": ["b"]}))
    assert (caught.value.code, bool(caught.value.hint)) == ("bad_data", True)


def test_labels_are_read_by_their_names(tmp_path: Path) -> None:
    features = Features({"prompt": Value("string"), "completion": ClassLabel(names=["blue", "green"])})
    talks = conversations(tmp_path, roles("prompt"))
    assert learnt(talks, {"prompt": ["sky?", "grass?"], "completion": [0, 1]}, features) == [
        "blue<|im_end|>",
        "green<|im_end|>",
    ]


def test_empty_system_messages_are_passed_over(tmp_path: Path) -> None:
    talks = conversations(tmp_path, roles("messages"))
    empty = {"role": "system", "content": ""}
    rows = {"messages": [[empty, USER, BOT]]}
    assert learnt(talks, rows) == ["It is blue.<|im_end|>"]


@pytest.mark.parametrize(
    ("kind", "cell", "complaint"),
    [
        ("messages", None, "missing or empty"),
        ("messages", "[]", "missing or empty"),
        ("messages", '{"role": "user"}', "missing or empty"),
        ("messages", "[{", "no valid JSON"),
        ("messages", json.dumps([{"role": "user"}, BOT]), "message 1 has no text"),
        ("messages", json.dumps([USER, {"role": "robot", "content": "x"}]), "message 2 is from 'robot'"),
        ("messages", json.dumps([USER, {"role": "assistant", "content": " "}]), "message 2 is empty"),
        ("messages", json.dumps([USER]), "there is nothing to learn"),
        ("messages", json.dumps([BOT]), "there is nothing to learn"),
        ("prompt", None, "the prompt is missing"),
        ("prompt", "  ", "the prompt is empty"),
    ],
)
def test_a_row_that_cannot_be_learnt_is_named(
    tmp_path: Path, kind: str, cell: str | None, complaint: str
) -> None:
    talks = conversations(tmp_path, roles(kind))
    good = json.dumps([USER, BOT])
    rows = (
        {"messages": [good, cell]} if kind == "messages" else {"prompt": ["a", cell], "completion": ["b"] * 2}
    )
    with pytest.raises(TrainingFailure) as caught:
        talks.examples("validation", Dataset.from_dict(rows))
    assert caught.value.code == "bad_data"
    assert complaint in caught.value.message
    assert "row 2" in caught.value.message.lower() and kind in caught.value.message


def test_a_template_that_refuses_a_conversation_says_so_with_the_row(tmp_path: Path) -> None:
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
    )
    talks = conversations(tmp_path, roles("messages"), strict)
    rows = {"messages": [[{"role": "system", "content": "Be short."}, USER, BOT]]}
    with pytest.raises(TrainingFailure, match="no system role") as caught:
        talks.examples("train", Dataset.from_dict(rows))
    assert caught.value.code == "bad_data"


def test_samples_show_the_question_and_what_the_row_answers(tmp_path: Path) -> None:
    talks = conversations(tmp_path, roles("messages"))
    rows = Dataset.from_dict({"messages": [[USER, BOT], [USER, BOT, USER, BOT]]})
    first, second = talks.samples(rows, [0, 1], "validation")
    assert (first.shown, first.expected) == (USER["content"], BOT["content"])
    assert first.text.endswith("<|im_start|>assistant\n")
    assert second.shown.splitlines() == [
        "user: What colour is the sky?",
        "assistant: It is blue.",
        "user: What colour is the sky?",
    ]
