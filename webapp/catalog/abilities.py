"""Which tasks a kind of model can learn.

Tasks belong to `runs`, which this app does not import; `runs.apps` registers them here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ability:
    """A task, as far as the catalogue shows it."""

    slug: str
    title: str
    summary: str
    icon: str
    model_kinds: tuple[str, ...]
    methods: tuple[str, ...]  # titles


_registered: dict[str, Ability] = {}


def register(ability: Ability) -> None:
    """Called once a task when the process starts."""
    _registered[ability.slug] = ability


def all_abilities() -> tuple[Ability, ...]:
    """Every task, in the order of registration."""
    return tuple(_registered.values())


def abilities_of(kind: str) -> tuple[Ability, ...]:
    """What a model of this kind can learn."""
    return tuple(ability for ability in _registered.values() if kind in ability.model_kinds)
