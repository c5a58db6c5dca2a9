"""What a schema says of its columns beside their types: the `datasets` library's features, and our own notes.

Both are metadata that a stranger can write: a kind counts only for a column whose type can hold it, and what stands in
the column is checked as it is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

NOTES = b"tuneboard"  # key of the schema's metadata: {"kinds": {column: kind}, "masks": {column: names of classes}}
FEATURES = b"huggingface"
MOST_NAMES = 1000


@dataclass(frozen=True)
class Said:
    """Of one column. `kind`: empty where its type alone tells; `settled`: a version of ours had it as that kind."""

    kind: str = ""
    settled: bool = False
    names: list[str] = field(default_factory=list)  # of classes, in the order of their numbers


def said_of(schema: pa.Schema, kinds: dict[str, str] | None = None) -> dict[str, Said]:
    """{column as the schema calls it: what is said of it}. `kinds`: known from elsewhere, where no note says them."""
    features, noted = _features(schema), {**(kinds or {}), **_noted(schema, "kinds", str)}
    of_masks = _noted(schema, "masks", list)
    has_tags = any(_tag_names(features.get(item.name)) is not None for item in schema)
    found = {}
    for item in schema:
        feature, kind = features.get(item.name), noted.get(item.name, "")
        settled = kind in FITS and FITS[kind](item.type)
        if not settled:
            kind = _kind_of(feature, item.type, has_tags)
        if kind == "mask":
            feature = {"_type": "ClassLabel", "names": of_masks.get(item.name)}
        found[item.name] = Said(kind, settled, _names_of(feature, kind))
    return found


def _kind_of(feature: Any, held: pa.DataType, has_tags: bool) -> str:
    """The kind that a feature means, where the type of the column fits it; words only where something tags them."""
    if isinstance(feature, dict) and feature.get("_type") == "Audio" and is_media(held):
        return "audio"
    if _tag_names(feature) is not None and is_numbers(held):
        return "tags"
    if has_tags and is_texts(held):
        return "tokens"
    if _box_names(feature) is not None and is_objects(held):
        return "objects"
    return ""


def _names_of(feature: Any, kind: str) -> list[str]:
    found = {"tags": _tag_names, "objects": _box_names}.get(kind, class_names)(feature)
    return found or []


def class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel; None of anything else, or where they cannot be told apart."""
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if not isinstance(names, list) or len(names) > MOST_NAMES or len(set(map(str, names))) != len(names):
        return None
    return names if all(isinstance(each, str) and "\0" not in each for each in names) else None


def _tag_names(feature: Any) -> list[str] | None:
    """Of a list of ClassLabel, as the library wrote it at any time."""
    if isinstance(feature, list):
        return class_names(feature[0]) if len(feature) == 1 else None
    if isinstance(feature, dict) and feature.get("_type") in {"List", "LargeList", "Sequence"}:
        return class_names(feature.get("feature"))
    return None


def _box_names(feature: Any) -> list[str] | None:
    """Of {"bbox": …, "category": a list of ClassLabel}; older versions of the library wrap it as a Sequence."""
    if isinstance(feature, dict) and feature.get("_type") == "Sequence":
        members = feature.get("feature")
        return class_names(members.get("category")) if isinstance(members, dict) else None
    if isinstance(feature, dict) and "_type" not in feature:
        return _tag_names(feature.get("category"))
    return None


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[FEATURES])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _noted(schema: pa.Schema, what: str, of: type) -> dict[str, Any]:
    """Our note of something of each column, where it is of the type that it is to be."""
    try:
        said = json.loads((schema.metadata or {})[NOTES])[what]
        return {name: value for name, value in said.items() if isinstance(value, of)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


# -- which types can hold a kind ------------------------------------------------------------------
def is_text(held: pa.DataType) -> bool:
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held))


def is_list(held: pa.DataType) -> bool:
    return bool(pa.types.is_list(held) or pa.types.is_large_list(held) or pa.types.is_fixed_size_list(held))


def is_numbers(held: pa.DataType) -> bool:
    return is_list(held) and bool(pa.types.is_integer(held.value_type))


def is_texts(held: pa.DataType) -> bool:
    return is_list(held) and is_text(held.value_type)


def is_media(held: pa.DataType) -> bool:
    if not pa.types.is_struct(held) or not {"bytes", "path"} <= {member.name for member in held}:
        return False
    data = held.field("bytes").type
    return bool(pa.types.is_binary(data) or pa.types.is_large_binary(data))


def is_objects(held: pa.DataType) -> bool:
    if not pa.types.is_struct(held) or not {"bbox", "category"} <= {member.name for member in held}:
        return False
    boxes, category = held.field("bbox").type, held.field("category").type
    return is_numbers(category) and is_list(boxes) and _is_box(boxes.value_type)


def _is_box(held: pa.DataType) -> bool:
    return is_list(held) and bool(
        pa.types.is_floating(held.value_type) or pa.types.is_integer(held.value_type)
    )


def is_messages(held: pa.DataType) -> bool:
    """A list of structs of two texts: role and content, or from and value."""
    if not is_list(held) or not pa.types.is_struct(held.value_type):
        return False
    texts = {member.name for member in held.value_type if is_text(member.type)}
    return texts >= {"role", "content"} or texts >= {"from", "value"}


def is_answers(held: pa.DataType) -> bool:
    """A struct of two lists: text, and answer_start."""
    if not pa.types.is_struct(held) or {member.name for member in held} != {"text", "answer_start"}:
        return False
    return is_texts(held.field("text").type) and is_numbers(held.field("answer_start").type)


FITS = {
    "text": is_text,
    "json": is_text,
    "label": pa.types.is_integer,
    "integer": pa.types.is_integer,
    "float": pa.types.is_floating,
    "boolean": pa.types.is_boolean,
    "image": is_media,
    "audio": is_media,
    "mask": is_media,
    "messages": is_messages,
    "objects": is_objects,
    "tokens": is_texts,
    "tags": is_numbers,
    "answers": is_answers,
}
