"""Which task a dataset suits, and which column plays which role in it.

Tasks belong to `runs`, which this app does not import; `runs.apps` registers what each needs here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MOST_CLASSES = 1000
# Kinds that a dataset is about, where it has one.
MADE_FOR = frozenset(("answers", "mask", "objects", "tags", "audio", "image"))
CLASSES_TELL = 0.8  # of a usual name
MOST_NUMBER_CLASSES = 100  # of a column of whole numbers that is taken for a label


class RoleLike(Protocol):
    """The part of a task's role that matching columns needs (runs.training.tasks.common.Role)."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def usual_names(self) -> tuple[str, ...]: ...


class ColumnLike(Protocol):
    """The part of a column that matching needs."""

    name: str
    kind: str
    distinct: int | None

    @property
    def typical_length(self) -> float: ...


@dataclass(frozen=True)
class TaskNeeds:
    """What columns a task needs."""

    slug: str
    title: str
    column_sets: tuple[tuple[str, ...], ...]
    roles: dict[str, RoleLike]


@dataclass(frozen=True)
class PlainRole:
    """A role that has been written down and read again."""

    name: str
    kinds: tuple[str, ...]
    usual_names: tuple[str, ...]
    title: str = ""  # what no page shows of it is not written down
    help: str = ""


_registered: dict[str, TaskNeeds] = {}


def register(
    slug: str, title: str, column_sets: tuple[tuple[str, ...], ...], roles: Sequence[RoleLike]
) -> None:
    """Called once a task when the process starts."""
    _registered[slug] = TaskNeeds(slug, title, column_sets, {role.name: role for role in roles})


def registered() -> dict[str, TaskNeeds]:
    """Every task that has been registered, by slug, in the order of registration."""
    return _registered


def as_json(needs: TaskNeeds) -> dict[str, Any]:
    """For the process that inspects, which knows no tasks."""
    roles = [
        {"name": role.name, "kinds": list(role.kinds), "usual_names": list(role.usual_names)}
        for role in needs.roles.values()
    ]
    return {"slug": needs.slug, "title": needs.title, "column_sets": needs.column_sets, "roles": roles}


def from_json(said: dict[str, Any]) -> TaskNeeds:
    roles = [
        PlainRole(item["name"], tuple(item["kinds"]), tuple(item["usual_names"])) for item in said["roles"]
    ]
    sets = tuple(tuple(each) for each in said["column_sets"])
    return TaskNeeds(said["slug"], said["title"], sets, {role.name: role for role in roles})


def can_use_messages(task: str, tasks: Sequence[TaskNeeds]) -> bool:
    """Whether the task that was asked for takes conversations, and not the columns that they are made of."""
    wanted = [needs for needs in tasks if needs.slug == task]
    return not wanted or any("messages" in role.kinds for needs in wanted for role in needs.roles.values())


def suits(column: ColumnLike, role: RoleLike) -> bool:
    """Whether a column of this kind can play the role, and makes sense in it."""
    if column.kind not in role.kinds:
        return False
    if "label" in role.kinds and "text" not in role.kinds and column.distinct is not None:
        most = MOST_CLASSES if column.kind == "label" else MOST_NUMBER_CLASSES
        return 2 <= column.distinct <= most
    return True


def suggest(
    columns: Sequence[ColumnLike],
    tasks: Sequence[TaskNeeds],
    *,
    task: str = "",
    asked: dict[str, str] | None = None,
) -> dict[str, Any]:
    """{task, columns {role: column}, reason}; empty if no task fits. What was asked for stands as it is."""
    best: tuple[float, dict[str, Any]] | None = None
    for needs in tasks:
        if task and needs.slug != task:
            continue
        for number, roles in enumerate(needs.column_sets):
            found = _matched(columns, needs, roles, asked or {})
            if found is None:
                continue
            mapping, named = found
            if not task and not asked and not _uses_what_it_was_made_for(columns, mapping):
                continue
            # Named as usual counts most, then how much of the dataset is used, then the task's own order.
            score = 10 * named / len(roles) + 2 * len(roles) - 0.1 * number
            if best is None or score > best[0]:
                suggested = {
                    "task": needs.slug,
                    "columns": mapping,
                    "reason": _reason(columns, needs, mapping),
                }
                best = (score, suggested)
    return best[1] if best else {}


def _uses_what_it_was_made_for(columns: Sequence[ColumnLike], mapping: dict[str, str]) -> bool:
    """Whether one of the columns that tell what a dataset is for has a role: a question and its text without the answer
    are no example of anything.
    """
    made_for = {column.name for column in columns if column.kind in MADE_FOR}
    return not made_for or bool(made_for & set(mapping.values()))


def _matched(
    columns: Sequence[ColumnLike], needs: TaskNeeds, roles: tuple[str, ...], asked: dict[str, str]
) -> tuple[dict[str, str], float] | None:
    """(role → column, how many were asked for or have a usual name), or None if a role stays empty.

    Classes are nearly as telling as a name: who brings them beside texts seldom wants the texts alone.
    """
    if not set(asked) <= set(roles):
        return None
    mapping: dict[str, str] = {}
    named = 0.0
    # Roles that few columns can fill choose first, so that they do not find their column taken.
    order = sorted(roles, key=lambda role: sum(suits(column, needs.roles[role]) for column in columns))
    for name in order:
        role = needs.roles[name]
        free = [column for column in columns if column.name not in mapping.values()]
        if name in asked:
            free = [column for column in free if column.name == asked[name] and column.kind in role.kinds]
        else:
            free = [c for c in free if suits(c, role) and c.name not in asked.values()]
        if not free:
            return None
        ranked = min(range(len(free)), key=lambda index: (*_rank(free[index], role), index))
        mapping[name] = free[ranked].name
        if name in asked or _rank(free[ranked], role)[0] < len(role.usual_names):
            named += 1
        elif free[ranked].kind == "label" and "text" not in role.kinds:
            named += CLASSES_TELL
    return {name: mapping[name] for name in roles}, named


def _rank(column: ColumnLike, role: RoleLike) -> tuple[int, int, float]:
    """Smaller is better: place among the usual names, then among the kinds; longer texts before short ones."""
    usual = [name.lower() for name in role.usual_names]
    name = column.name.lower()
    place = usual.index(name) if name in usual else len(usual)
    return place, role.kinds.index(column.kind), -column.typical_length


def _reason(columns: Sequence[ColumnLike], needs: TaskNeeds, mapping: dict[str, str]) -> str:
    by_name = {column.name: column for column in columns}
    parts = []
    for role, name in mapping.items():
        column = by_name[name]
        what = f"{column.distinct:,} different values" if role == "label" and column.distinct else column.kind
        parts.append(f"“{name}” ({what}) as {role.replace('_', ' ')}")
    return f"{needs.title} can use {' and '.join(parts)}."
