"""What can be done to the rows of a version, to make another: every module here that has `EDITS` adds some.

An edit is asked for as JSON, `{"op": its slug, …}`. It is checked against what is known of the version when it is asked
for, and applied by the process that converts (conversion.py), over the version's own Parquet files. No Django in here.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from webapp.datasets.edits.facts import Facts
from webapp.datasets.splitting import seed_trouble
from webapp.storable import fault_of

if TYPE_CHECKING:  # what applies edits reads Parquet; who only asks for them need not load that
    from webapp.datasets.edits.plan import Parent, Plan

LARGEST = 2**63 - 1  # that DuckDB and NumPy count to
TYPE_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


class Wrong(Exception):
    """An edit that cannot be asked for; `fields` says what of it, and why."""

    def __init__(self, /, **fields: str) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = fields


class Edit(ABC):
    """One way to change rows."""

    slug: ClassVar[str]
    takes: ClassVar[dict[str, Any]]  # {parameter: what it is where nobody says it; its type if somebody must}

    @abstractmethod
    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        """Raises Wrong where this version cannot be changed so. Names and types of parameters are right."""

    @abstractmethod
    def title(self, asked: dict[str, Any]) -> str:
        """What is being done, such as “Dropping rows that repeat another”."""

    @abstractmethod
    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        """Say in the plan what becomes of the rows; a sentence of what was done. May raise Refused."""


@cache
def all_edits() -> dict[str, Edit]:
    """Every edit, by its slug."""
    found = [
        importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    ]
    return {edit.slug: edit for module in found for edit in getattr(module, "EDITS", ())}


def checked(asked: Any, facts: Facts) -> dict[str, Any]:
    """The edit with everything that it takes; raises Wrong. What nobody knows is refused, not passed over."""
    op = asked.get("op") if isinstance(asked, dict) else None
    edit = all_edits().get(op) if isinstance(op, str) else None
    if edit is None:
        raise Wrong(op=f"There is no such change. There are: {', '.join(sorted(all_edits()))}.")
    unknown = sorted(set(asked) - set(edit.takes) - {"op"})
    if unknown:
        raise Wrong(**{unknown[0]: f"{edit.slug} does not take this."})
    whole = {"op": edit.slug}
    for name, usual in edit.takes.items():
        if isinstance(usual, type):
            if name not in asked:
                raise Wrong(**{name: "This is needed."})
            whole[name] = _typed(name, asked[name], usual)
        else:
            whole[name] = _typed(name, asked.get(name, usual), type(usual))
    edit.check(whole, facts)
    return whole


def _typed(name: str, value: Any, wanted: type) -> Any:
    """The value, which is of the type and can be kept; raises Wrong."""
    if isinstance(value, int) and abs(value) > LARGEST:
        raise Wrong(**{name: "This number is too large."})
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise Wrong(**{name: f"This is to be {TYPE_NAMES[wanted]}."})
    if fault := fault_of(value):
        raise Wrong(**{name: f"This {fault}."})
    return value


def title_of(asked: dict[str, Any]) -> str:
    """Of a checked edit."""
    return all_edits()[asked["op"]].title(asked)


def need_column(facts: Facts, name: str, kinds: tuple[str, ...] = ()) -> dict[str, Any]:
    """The column of this name, which is of one of the kinds; raises Wrong."""
    column = next((each for each in facts.columns if each["name"] == name), None)
    if column is None:
        raise Wrong(column=f"There is no column “{name}”.")
    if kinds and column["kind"] not in kinds:
        raise Wrong(column=f"“{name}” is {column['kind']}; this is for {' or '.join(kinds)} columns.")
    return column


def need_names(names: list[Any], column: dict[str, Any], field: str = "labels") -> list[str]:
    """Classes of the column, each once; raises Wrong."""
    if not names or not all(isinstance(name, str) for name in names):
        raise Wrong(**{field: "Say one class at least."})
    unknown = [name for name in names if name not in (column.get("names") or [])]
    if unknown:
        raise Wrong(**{field: f"“{column['name']}” has no class “{unknown[0][:60]}”."})
    return list(dict.fromkeys(names))


def need_seed(seed: int) -> None:
    """Raises Wrong unless rows can be drawn with it."""
    if trouble := seed_trouble(seed):
        raise Wrong(seed=trouble)
