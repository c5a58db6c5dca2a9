"""What a task declares, and so what forms, pages, API and docs derive from.

A task is one module beside this one with a `TASK`: an instance of a subclass of `Task`. The class
attributes are read by the web side, where torch is not installed: a task module imports nothing
heavy at its top. `train` runs in the training program and imports what it needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from runs.training.context import Context


@dataclass(frozen=True)
class Role:
    """What a column is for in a task, such as the text or the label."""

    name: str
    title: str
    help: str
    kinds: tuple[str, ...]  # of dataset columns: text, label, integer, float, boolean, image, messages, json
    # Column names that people commonly give it, most telling first; for suggesting a mapping.
    usual_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """One thing that a person may choose. Named as in transformers' TrainingArguments where it is there."""

    name: str
    title: str
    help: str
    type: str  # int | float | bool | choice | text
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[tuple[str, str], ...] = ()  # (value, title)
    methods: tuple[str, ...] = ()  # empty: every method of the task
    defaults_by_method: tuple[tuple[str, Any], ...] = ()
    advanced: bool = False
    unit: str = ""

    def default_for(self, method: str) -> Any:
        return dict(self.defaults_by_method).get(method, self.default)


@dataclass(frozen=True)
class Method:
    """A way of fine-tuning."""

    slug: str  # full | last_layers | head | lora | …
    title: str
    summary: str  # what it does and when it is right, in a sentence or two


# The methods that tasks share; runs/training/methods.py and head.py do them.
FULL = Method(
    "full",
    "Whole model",
    "Trains every weight. Gives the best results with many rows and a GPU; the slowest.",
)
LAST_LAYERS = Method(
    "last_layers",
    "Last layers",
    "Trains only the last layers and keeps the rest. Quicker and needs less memory, at a little less accuracy.",
)
HEAD = Method(
    "head",
    "Head on features",
    "Reads each row once with the unchanged model and fits a linear classifier on what it saw. Done in minutes "
    "without a GPU, and hard to beat with few rows.",
)
LORA = Method(
    "lora",
    "LoRA adapters",
    "Trains small adapters beside the weights. Close to the whole model's result with a fraction of the memory; "
    "the adapter can be downloaded by itself.",
)


@dataclass(frozen=True)
class MetricInfo:
    """A metric that a run of this task reports, without its split in front."""

    name: str
    title: str
    higher_is_better: bool
    percent: bool = False
    help: str = ""


class Task(ABC):
    """Something that a model can learn to do."""

    slug: ClassVar[str]  # the Hub's name where it has one
    title: ClassVar[str]
    summary: ClassVar[str]
    icon: ClassVar[str] = "puzzle"  # of Tabler icons
    order: ClassVar[int] = 100
    model_kinds: ClassVar[tuple[str, ...]]  # of webapp.catalog.models.BaseModel.Kind
    roles: ClassVar[tuple[Role, ...]]
    # The combinations of roles that make an example; the first that a dataset can fill is suggested.
    column_sets: ClassVar[tuple[tuple[str, ...], ...]]
    methods: ClassVar[tuple[Method, ...]]
    settings: ClassVar[tuple[Setting, ...]]
    metrics: ClassVar[tuple[MetricInfo, ...]]
    main_metric: ClassVar[str]
    baseline_title: ClassVar[str]
    usage: ClassVar[str]  # Python for the model card: how the finished model is loaded and used

    @abstractmethod
    def train(self, context: Context) -> None:
        """Do the run that `context.spec` describes, reporting through `context`; raises TrainingFailure."""

    def usage_for(self, columns: Mapping[str, str]) -> str:
        """The model card's Python for a model that learned from these columns (role → column)."""
        return self.usage

    def method(self, slug: str) -> Method:
        """Raises KeyError if this task does not allow it."""
        return {method.slug: method for method in self.methods}[slug]

    def settings_for(self, method: str) -> tuple[Setting, ...]:
        """The settings that a form for this method shows, in order."""
        return tuple(item for item in self.settings if not item.methods or method in item.methods)

    def can_be_extended(self, method: str) -> bool:
        """Whether a finished run can go on from its last state: one that goes through its rows again and again."""
        return any(item.name == "num_train_epochs" for item in self.settings_for(method))

    def metric(self, name: str) -> MetricInfo:
        """By name, with or without the split in front; raises KeyError."""
        plain = name.removeprefix("validation_").removeprefix("train_")
        return {metric.name: metric for metric in self.metrics}[plain]


class Classification(Task):
    """A task that gives each row one of the classes of a label column."""

    metrics = (
        MetricInfo("accuracy", "Accuracy", True, percent=True, help="The share of rows sorted rightly."),
        MetricInfo(
            "f1_macro",
            "F1, mean over classes",
            True,
            percent=True,
            help="Like accuracy, but each class counts the same however rare it is.",
        ),
        MetricInfo("loss", "Loss", False, help="How surprised the model is by the right answers; 0 is best."),
    )
    main_metric = "accuracy"
    baseline_title = "Always the most frequent class"
