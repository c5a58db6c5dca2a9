"""Questions with their answers in a text, as SQuAD keeps them: articles of paragraphs, or a row a question.

An answer is a text and the character of the context where it begins (counted from 0). A question without an answer in its
context (SQuAD 2.0: `is_impossible`) has none.
"""

from __future__ import annotations

from typing import Any

from webapp.datasets.formats.chat import BadTurn, Shape

Row = dict[str, Any]
TEXTS = (
    "id",
    "title",
    "context",
    "question",
)  # that stay texts beside answers, however few different there are
INT64 = range(-(2**63), 2**63)


def as_answers(value: Any) -> dict[str, list[Any]] | None:
    """{"text": [...], "answer_start": [...]} of either way of writing answers; None where a value is none."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        if not all({"text", "answer_start"} <= set(each) for each in value):
            return None
        value = {key: [each[key] for each in value] for key in ("text", "answer_start")}
    if not isinstance(value, dict) or set(value) != {"text", "answer_start"}:
        return None
    texts, starts = value["text"], value["answer_start"]
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return None
    whole = all(isinstance(start, int) and not isinstance(start, bool) and start in INT64 for start in starts)
    if not whole or not all(isinstance(text, str) for text in texts):
        return None
    return {"text": texts, "answer_start": starts}


def squad_shape(row: Row) -> Shape | None:
    """The shape of a file whose first row is an article."""
    paragraphs = row.get("paragraphs")
    if not isinstance(paragraphs, list) or not paragraphs:
        return None
    first = paragraphs[0]
    if (
        isinstance(first, dict)
        and isinstance(first.get("context"), str)
        and isinstance(first.get("qas"), list)
    ):
        return Shape("squad", frozenset(("paragraphs",)), _questions)
    return None


def _questions(article: Row) -> list[Row]:
    """A row a question: id, title, context, question, answers."""
    found = []
    for paragraph in _list(article.get("paragraphs")):
        if not isinstance(paragraph, dict) or not isinstance(paragraph.get("context"), str):
            raise BadTurn("paragraphs", "a paragraph has no context")
        for asked in _list(paragraph.get("qas")):
            if not isinstance(asked, dict) or not isinstance(asked.get("question"), str):
                raise BadTurn("paragraphs", "one of the qas has no question")
            found.append(
                {
                    "id": None if asked.get("id") is None else str(asked["id"]),
                    "title": article.get("title") if isinstance(article.get("title"), str) else None,
                    "context": paragraph["context"],
                    "question": asked["question"],
                    "answers": _answers(asked),
                }
            )
    return found


def _answers(asked: Row) -> dict[str, list[Any]] | None:
    """None where nothing is said of them, as in a test set that others mark."""
    if asked.get("is_impossible") is True or asked.get("answers") == []:
        return {"text": [], "answer_start": []}
    if asked.get("answers") is None:
        return None
    answers = as_answers(asked["answers"])
    if answers is None:
        raise BadTurn("paragraphs", "the answers of a question are not text and answer_start")
    return answers


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadTurn("paragraphs", "holds no list of paragraphs and questions (qas)")
    return value
