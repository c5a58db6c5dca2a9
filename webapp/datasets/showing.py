"""How values of nested kinds are laid out for a page: boxes on a picture, entities in a text."""

from __future__ import annotations

from typing import Any

COLOURS = 10  # classes `hue-0` to `hue-9` of the style sheet
MOST_BOXES = 200
MOST_TOKENS = 300


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
