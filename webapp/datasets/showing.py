"""How values of nested kinds are laid out for a page: boxes on a picture, entities in a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = 10  # classes `hue-0` to `hue-9` of the style sheet
MOST_BOXES = 200
MOST_TOKENS = 300
MOST_ANSWERS = 6
LONGEST_ANSWER = 400  # characters
AROUND = 80  # characters of the context on either side
CONTEXTS = ("context", "passage", "paragraph", "document", "text")


def cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def named(code: int | None, names: list[str]) -> str:
    """A class by its number."""
    return names[code] if code is not None and 0 <= code < len(names) else str(code)


def boxes(value: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """{"boxes": [{x, y, width, height, category, hue}], "hidden": how many more}"""
    pairs = list(zip(value["bbox"] or [], value["category"] or [], strict=False))
    found = [
        {
            **dict(zip(("x", "y", "width", "height"), (round(number, 1) for number in box), strict=False)),
            "category": named(code, names),
            "hue": (code or 0) % COLOURS,
        }
        for box, code in pairs[:MOST_BOXES]
        if len(box) == 4
    ]
    return {"boxes": found, "hidden": max(0, len(pairs) - MOST_BOXES)}


def context_column(columns: Sequence[Mapping[str, Any]]) -> str:
    """The name of the text that answers stand in; empty if there is none."""
    texts = [column["name"] for column in columns if column["kind"] == "text"]
    return next((name for usual in CONTEXTS for name in texts if name.lower() == usual), "")


def answers(value: dict[str, Any], context: str | None) -> dict[str, Any]:
    """{"answers": [{"before", "text", "after", "stands"}], "hidden"}: each answer once, with what is around it.

    An answer that does not stand in the context where it says is told without what is around it.
    """
    pairs = dict.fromkeys(zip(value["answer_start"] or [], value["text"] or [], strict=False))
    found = []
    for start, text in list(pairs)[:MOST_ANSWERS]:
        told, text = cut(text or "", LONGEST_ANSWER), text or ""
        end = (start or 0) + len(text)
        if context is None or start is None or start < 0 or context[start:end] != text:
            found.append({"before": "", "text": told, "after": "", "stands": False})
            continue
        before, after = context[max(0, start - AROUND) : start], context[end : end + AROUND]
        found.append(
            {
                "before": f"{'…' if start > AROUND else ''}{before}",
                "text": told,
                "after": f"{after}{'…' if end + AROUND < len(context) else ''}",
                "stands": True,
            }
        )
    return {"answers": found, "hidden": max(0, len(pairs) - MOST_ANSWERS)}


def entities(tags: list[int], tokens: list[str] | None, names: list[str]) -> list[dict[str, Any]]:
    """Stretches of tokens: [{"text", "tag": empty outside of entities, "hue"}]. Without tokens, the tags alone."""
    words = tokens if tokens is not None else [named(tag, names) for tag in tags]
    kinds = sorted({name.partition("-")[2] or name for name in names if name != "O"})
    found: list[dict[str, Any]] = []
    for word, code in list(zip(words, tags, strict=False))[:MOST_TOKENS]:
        tag = named(code, names)
        begins, _, kind = tag.partition("-")
        kind = "" if tag == "O" else kind or tag
        if found and found[-1]["tag"] == kind and begins != "B":
            found[-1]["text"] += f" {word}"
        else:
            hue = kinds.index(kind) % COLOURS if kind in kinds else 0
            found.append({"text": word, "tag": kind, "hue": hue})
    if len(words) > MOST_TOKENS:
        found.append({"text": "…", "tag": "", "hue": 0})
    return found
