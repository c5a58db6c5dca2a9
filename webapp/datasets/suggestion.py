"""Which task a dataset suits, and which column plays which role in it.

Tasks belong to `runs`, which this app does not import; `runs.apps` registers what each needs here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class RoleLike(Protocol):
    """The part of a task's role that matching columns needs (runs.training.tasks.common.Role)."""

    @property
    def name(self) -> str: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def usual_names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class TaskNeeds:
    """What columns a task needs."""

    slug: str
    title: str
    column_sets: tuple[tuple[str, ...], ...]
    roles: dict[str, RoleLike]


_registered: dict[str, TaskNeeds] = {}


def register(
    slug: str, title: str, column_sets: tuple[tuple[str, ...], ...], roles: Sequence[RoleLike]
) -> None:
    """Called once a task when the process starts."""
    _registered[slug] = TaskNeeds(slug, title, column_sets, {role.name: role for role in roles})


def registered() -> dict[str, TaskNeeds]:
    """Every task that has been registered, by slug, in the order of registration."""
    return _registered
