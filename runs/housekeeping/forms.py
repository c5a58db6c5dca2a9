"""The form of a retention rule."""

from __future__ import annotations

from typing import Any

from django import forms

from runs.housekeeping.rules import FIELDS
from runs.models import RetentionRule

LONGEST = 36_500  # days
TITLES = {
    "checkpoint_days": "Checkpoints of runs that succeeded",
    "unfinished_checkpoint_days": "Checkpoints of failed or cancelled runs",
    "checkpoint_keep": "Of those checkpoints, keep",
    "log_days": "Logs",
    "file_days": "Model files of runs that succeeded",
    "unfinished_file_days": "Model files of failed or cancelled runs",
    "metric_days": "Points of metrics",
    "metric_action": "What is done with the points",
    "run_days": "Whole runs",
    "remove_orphans": "Remove files without an owner every day",
}
HELP = {
    "checkpoint_days": "A run whose checkpoints are gone cannot be extended.",
    "unfinished_checkpoint_days": "A run whose checkpoints are gone starts from the beginning when it is tried again.",
    "file_days": "What people download. The results of the run stay.",
    "metric_days": "What charts are drawn of. The results of the run stay.",
    "run_days": "With everything that belongs to them.",
}


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]  # Django's own class takes none at run time
    """After how many days what goes; empty is never."""

    class Meta:
        model = RetentionRule
        fields = [*FIELDS, "remove_orphans"]
        labels = TITLES
        help_texts = HELP

    def __init__(self, *args: Any, site: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not site:
            del self.fields["remove_orphans"]
        for name, field in self.fields.items():
            if isinstance(field, forms.IntegerField):
                field.min_value, field.max_value = 0, LONGEST
                self.fields[name] = forms.IntegerField(
                    label=field.label,
                    help_text=field.help_text,
                    required=False,
                    min_value=0,
                    max_value=LONGEST,
                    widget=forms.NumberInput(attrs={"placeholder": "never", "inputmode": "numeric"}),
                )

    def days(self) -> list[forms.BoundField]:
        return [field for field in self if field.name.endswith("_days")]

    def others(self) -> list[forms.BoundField]:
        return [field for field in self if not field.name.endswith("_days")]

    def rule(self) -> RetentionRule:
        """What the form says, not saved; call it on a valid form."""
        values = {name: self.cleaned_data[name] for name in self.fields}
        return RetentionRule(**values)
