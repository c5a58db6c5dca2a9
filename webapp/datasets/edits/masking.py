"""Personal data that is hidden in the rows themselves, as pages hide it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from webapp.datasets.edits import Edit, need_column
from webapp.datasets.edits.facts import Facts
from webapp.datasets.edits.plan import Parent, Plan
from webapp.datasets.findings.personal import KINDS, masked
from webapp.datasets.formats.common import MESSAGES


class MaskPersonal(Edit):
    """E-mail addresses, telephone and card numbers, as far as they are recognised."""

    slug = "mask_personal"
    takes = {"column": str}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        need_column(facts, asked["column"], KINDS)

    def title(self, asked: dict[str, Any]) -> str:
        return f"Masking personal data in “{asked['column']}”"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        masks = {"messages": _messages, "json": _json}
        plan.rewrite[asked["column"]] = masks.get(parent.column(asked["column"]).kind, _texts)
        return f"Masked e-mail addresses, telephone and card numbers in “{asked['column']}”."


def _texts(array: pa.Array) -> pa.Array:
    return pa.array([None if text is None else masked(text) for text in array.to_pylist()], array.type)


def _messages(array: pa.Array) -> pa.Array:
    rows = [
        None if row is None else [said | {"content": masked(said["content"] or "")} for said in row]
        for row in array.to_pylist()
    ]
    return pa.array(rows, MESSAGES)


def _json(array: pa.Array) -> pa.Array:
    """Texts and numbers in it; what is JSON stays JSON."""

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: inside(each) for name, each in value.items()}
        if isinstance(value, list):
            return [inside(each) for each in value]
        return masked(value) if isinstance(value, str) else value

    texts = array.to_pylist()
    rows = [
        None if text is None else json.dumps(inside(json.loads(text)), ensure_ascii=False) for text in texts
    ]
    return pa.array(rows, array.type)


EDITS = (MaskPersonal(),)
