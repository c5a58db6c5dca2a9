"""Having a run train for longer from its last state: what may be asked for, and asking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runs import lifecycle, results
from runs.launch import LaunchError
from runs.models import Run
from runs.training.settings import SettingsError, check_settings
from runs.training.tasks.common import Setting
from webapp.accounts.models import User
from webapp.templatetags.ui import in_sentence, number


@dataclass(frozen=True)
class Extension:
    """What a run can have more of."""

    setting: Setting
    now: float  # what it is at present, and so the least that makes no sense

    @property
    def unit(self) -> str:
        return "epochs" if self.setting.name == "num_train_epochs" else "steps"

    @property
    def suggested(self) -> str:
        """Twice as much, or as much as is allowed."""
        twice = self.now * 2
        return number(min(twice, self.setting.maximum or twice)).replace(",", "")


def extension_of(run: Run) -> Extension | None:
    """What a run's method has that can be made more of: its step limit if that is set, else its epochs."""
    task = results.task_of(run)
    declared = {item.name: item for item in task.settings_for(run.method)} if task is not None else {}
    for name in ("max_steps", "num_train_epochs"):
        value = run.settings.get(name)
        if name in declared and isinstance(value, int | float) and value > 0:
            return Extension(declared[name], value)
    return None


def may_extend(run: Run) -> Extension | None:
    """As `extension_of`, but only if the run is in a state for it and has a checkpoint to go on from."""
    if run.status not in lifecycle.CHANGES["extended"].sources or run.dataset_version_id is None:
        return None
    if not run.checkpoints.exists():
        return None
    return extension_of(run)


def extend(run: Run, by: User, asked: dict[str, Any]) -> Run:
    """Send a run into the queue again, to so many `num_train_epochs` or `max_steps` in all.

    Raises LaunchError with a message a field, and lifecycle.NotAllowed.
    """
    found = extension_of(run)
    if found is None:
        raise lifecycle.NotAllowed(
            f"This run cannot be extended: its method, {in_sentence(results.method_title(run))}, has no epochs or steps."
        )
    name = found.setting.name
    wanted = {key: value for key, value in asked.items() if value not in (None, "")}
    for other in wanted.keys() - {name}:
        instead = f"This run ends by its {in_sentence(found.setting.title)}: give {name}."
        raise LaunchError({other: instead})
    if name not in wanted:
        raise LaunchError(
            {name: f"Say how many {found.unit} it should have in all, more than {found.now:g}."}
        )
    task = results.task_of(run)
    assert task is not None
    try:
        value = check_settings(task, run.method, {name: wanted[name]})[name]
    except SettingsError as wrong:
        raise LaunchError(wrong.fields) from wrong
    if value <= found.now:
        raise LaunchError({name: f"It has {found.now:g} {found.unit} already; ask for more."})
    return lifecycle.extend(run.pk, by, name, value, f"{number(value)} {found.unit}")
