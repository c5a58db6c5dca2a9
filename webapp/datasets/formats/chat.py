"""The shapes in which people keep what is said to a language model and what it answers: one shape comes out.

A conversation is a column of messages, each with role (system, user, assistant) and content. Known here: OpenAI's
messages, ShareGPT, Alpaca, prompt and completion, self-instruct, pairs of preferred and rejected answers (as texts or
messages), and translations. All other columns stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Messages = list[dict[str, str]]

ROLES = {
    "human": "user",
    "prompter": "user",
    **dict.fromkeys(("gpt", "chatgpt", "bot", "model", "ai", "bard", "bing", "function_call"), "assistant"),
    "observation": "tool",
}


class BadTurn(Exception):
    """A row that is nearly of its file's shape; says what is wrong with which column."""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(why)
        self.column = column


@dataclass(frozen=True)
class Shape:
    """How the rows of a file are written."""

    name: str
    consumes: frozenset[str]  # columns that become others
    rows: Callable[[Row], list[Row]]  # raises BadTurn


def as_messages(value: Any) -> Messages | None:
    """A conversation in one shape; None where a value is none."""
    if not isinstance(value, list) or not value:
        return None
    messages = []
    for item in value:
        message = _message(item)
        if message is None:
            return None
        messages.append(message)
    return messages


def nearly_messages(value: Any) -> str:
    """What is wrong with a list that is meant for a conversation; empty where it is none at all, or a good one."""
    if not isinstance(value, list) or not any(
        isinstance(each, dict) and {"role", "from"} & set(each) for each in value
    ):
        return ""
    for number, item in enumerate(value, start=1):
        if not isinstance(item, dict) or not isinstance(item.get("role", item.get("from")), str):
            return f"turn {number} does not say whose it is (role)"
        if _message(item) is None:
            return f"turn {number} has no text (content)"
    return ""


def _message(item: Any) -> dict[str, str] | None:
    if not isinstance(item, dict):
        return None
    role = item.get("role", item.get("from"))
    content = item.get("content", item.get("value"))
    if (
        isinstance(content, list)
        and content
        and all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
            for part in content
        )
    ):
        content = "\n".join(part["text"] for part in content)
    if content is None and ("content" in item or "value" in item):
        content = ""  # a turn that only calls a tool
    if not isinstance(role, str) or not isinstance(content, str):
        return None
    return {"role": ROLES.get(role.lower(), role), "content": content}


def shape_of(row: Row) -> Shape | None:
    """The shape of a file whose first row this is."""
    if isinstance(row.get("translation"), dict) and _is_translation(row["translation"]):
        return Shape("translation", frozenset(("translation",)), _translation)
    if {"chosen", "rejected"} <= set(row) and all(_is_turns(row[key]) for key in ("chosen", "rejected")):
        return Shape("preference", frozenset(), _preference)
    if "messages" in row:
        return None
    if as_messages(row.get("conversations")) and isinstance(row.get("system"), str):
        return Shape("sharegpt", frozenset(), _with_system)
    if isinstance(row.get("instruction"), str) and _is_instances(row.get("instances")):
        return Shape("self-instruct", frozenset(("instruction", "instances")), _self_instruct)
    if isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str):
        return Shape("alpaca", frozenset(("instruction", "input", "output", "history")), _alpaca)
    if _is_turns(row.get("prompt")) and _is_turns(row.get("completion")):
        return Shape("prompt-completion", frozenset(("prompt", "completion")), _prompt_completion)
    return None


def _is_turns(value: Any) -> bool:
    return isinstance(value, str) or as_messages(value) is not None


def _is_instances(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and "output" in each for each in value)
    )


def _is_translation(value: dict[str, Any]) -> bool:
    return len(value) >= 2 and all(isinstance(each, str | None) for each in value.values())


def _text(row: Row, column: str) -> str:
    """A text, or what stands for one; empty where there is none."""
    value = row.get(column)
    if isinstance(value, list | dict):
        raise BadTurn(column, f"holds a {'list' if isinstance(value, list) else 'group'} and not a text")
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _turns(row: Row, column: str, role: str) -> Messages:
    """The messages of a column that has either a text, which is one message, or several; none where it is empty."""
    value = row.get(column)
    if not isinstance(value, list):
        text = _text(row, column)
        return [{"role": role, "content": text}] if text.strip() else []
    messages = as_messages(value)
    if messages is None and value:
        raise BadTurn(column, nearly_messages(value) or "holds a list that is no conversation")
    return messages or []


def _exchange(asked: str, answer: str, system: str = "", before: Messages | None = None) -> Messages | None:
    """A question with its answer; None where one of them is missing."""
    if not asked.strip() or not answer.strip():
        return None
    first = [{"role": "system", "content": system}] if system.strip() else []
    last = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return [*first, *(before or []), *last]


def _put(row: Row, consumed: tuple[str, ...], made: Row) -> Row:
    """The row with new columns in front of those that stay."""
    return made | {key: value for key, value in row.items() if key not in consumed and key not in made}


def _asked(instruction: str, given: str) -> str:
    return f"{instruction}\n\n{given}" if given.strip() else instruction


def _alpaca(row: Row) -> list[Row]:
    before: Messages = []
    history = row.get("history") or []
    if not isinstance(history, list):
        raise BadTurn("history", "is no list of earlier questions and answers")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(each, str) for each in pair):
            raise BadTurn("history", "is no list of earlier questions and answers")
        before += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked = _asked(_text(row, "instruction"), _text(row, "input"))
    messages = _exchange(asked, _text(row, "output"), _text(row, "system"), before)
    return [_put(row, ("instruction", "input", "output", "history"), {"messages": messages})]


def _self_instruct(row: Row) -> list[Row]:
    instances = row.get("instances") or []
    if not isinstance(instances, list) or not all(isinstance(each, dict) for each in instances):
        raise BadTurn("instances", "is no list of inputs and outputs")
    instruction = _text(row, "instruction")
    made = [_exchange(_asked(instruction, _text(each, "input")), _text(each, "output")) for each in instances]
    return [_put(row, ("instruction", "instances"), {"messages": messages}) for messages in made or [None]]


def _prompt_completion(row: Row) -> list[Row]:
    prompt, answer = _turns(row, "prompt", "user"), _turns(row, "completion", "assistant")
    return [_put(row, ("prompt", "completion"), {"messages": prompt + answer if prompt and answer else None})]


def _with_system(row: Row) -> list[Row]:
    conversation, system = row.get("conversations"), _text(row, "system")
    if not isinstance(conversation, list) or not system.strip():
        return [row]
    first = conversation[0] if conversation else None
    if isinstance(first, dict) and first.get("from", first.get("role")) == "system":
        return [row]
    return [row | {"conversations": [{"from": "system", "value": system}, *conversation]}]


def _preference(row: Row) -> list[Row]:
    """Prompt, chosen and rejected: what both answers begin with in common belongs to the prompt."""
    prompt = _turns(row, "prompt", "user")
    chosen, rejected = (_turns(row, column, "assistant") for column in ("chosen", "rejected"))
    same = 0
    while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
        same += 1
    common, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    prompt = common if common[: len(prompt)] == prompt else prompt + common
    made = {"prompt": prompt or None, "chosen": chosen or None, "rejected": rejected or None}
    return [_put(row, (), made)]


def _translation(row: Row) -> list[Row]:
    value = row.get("translation")
    if value is not None and (not isinstance(value, dict) or not _is_translation(value)):
        raise BadTurn("translation", "is no text in two languages")
    return [_put(row, ("translation",), dict(value or {}))]
