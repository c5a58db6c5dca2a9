"""What people say about a dataset: files and hints when they upload it, a name later."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from webapp.datasets import suggestion
from webapp.datasets.edits.split import WAYS
from webapp.datasets.formats import all_extensions
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.splitting import SEED

HEADER = {"": "Find out", "yes": "Column names", "no": "Already data"}


class ManyFiles(forms.ClearableFileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Several files in one field."""

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile[bytes]]:
        files = data if isinstance(data, list | tuple) else [data] if data else []
        if not files and self.required:
            raise forms.ValidationError(f"Choose at least one file: {', '.join(all_extensions())}.")
        return list(files)


class UploadsField(forms.Field):
    """Ids of uploads, in their order."""

    def clean(self, value: Any) -> list[uuid.UUID]:
        try:
            return [uuid.UUID(each) for each in value or []]
        except ValueError as error:
            raise forms.ValidationError("An upload is not there any more; choose its file again.") from error


class FilesForm(forms.Form):
    """One file or several, with the form or piece by piece before it."""

    file = FilesField(label="Files", widget=ManyFiles)
    # Files that came piece by piece beforehand; then none has to come with the form.
    upload = UploadsField(required=False, widget=forms.MultipleHiddenInput)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["file"].required = not (self.is_bound and self.data.get("upload"))
        self.fields["file"].widget.attrs |= {
            "accept": ",".join(all_extensions()),
            "data-limit": settings.UPLOAD_MAX_BYTES,
        }

    def clean(self) -> dict[str, Any]:
        for error in self.errors.pop("upload", []):  # a field that nobody sees
            self.add_error("file", error)
        return self.cleaned_data


class UploadForm(FilesForm):
    """The files of one dataset. Everything but them can be left as it is."""

    name = forms.CharField(required=False, max_length=200, help_text="Left empty, it is the first file's.")
    task = forms.ChoiceField(
        required=False, label="What for", help_text="Left open, a task is suggested by what the columns hold."
    )
    header = forms.ChoiceField(
        required=False,
        label="The first line is",
        choices=list(HEADER.items()),
        help_text="Of CSV, Excel and text files.",
    )
    split_column = forms.CharField(
        required=False,
        max_length=100,
        help_text="If a column says train, validation or test for each row: its name. Else a split is made.",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        task = self.fields["task"]
        assert isinstance(task, forms.ChoiceField)
        task.choices = [
            ("", "Suggest one"),
            *((needs.slug, needs.title) for needs in suggestion.registered().values()),
        ]

    def request(self) -> dict[str, Any]:
        """As Dataset.request."""
        said = self.cleaned_data
        return {
            "task": said["task"],
            "has_header": {"yes": True, "no": False}.get(said["header"]),
            "split_column": said["split_column"],
        }


class HubForm(forms.Form):
    """A dataset of a hub. All but its name there can be left out."""

    prefix = "hub"  # the upload form stands on the same page, and has a name, too

    dataset = forms.CharField(
        max_length=200, label="Dataset on the hub", help_text="As the hub calls it, such as stanfordnlp/imdb."
    )
    revision = forms.CharField(
        required=False, max_length=200, help_text="A branch, tag or commit. Left empty: the newest."
    )
    config = forms.CharField(
        required=False,
        max_length=200,
        label="Configuration",
        help_text="Of a dataset that has several, such as one a language.",
    )
    split = forms.CharField(
        required=False,
        max_length=200,
        label="Only this split",
        help_text="Its rows are split anew. Left empty: train, validation and test are taken as they are.",
    )
    name = forms.CharField(
        required=False, max_length=200, label="Call it", help_text="Left empty, it is called as on the hub."
    )


class AddFilesForm(FilesForm):
    """Files whose rows come to those of a dataset."""

    split = forms.ChoiceField(
        required=False,
        label="Their rows are",
        choices=[
            ("", "What the files' names say, or else to train on"),
            ("train", "To train on"),
            ("validation", "To validate"),
            ("test", "To test"),
        ],
    )


class ClassesForm(forms.Form):
    """What is to be done with some classes of a column. Which, is found by their numbers: names may be anything."""

    labels = forms.TypedMultipleChoiceField(
        label="Classes", coerce=int, required=False, widget=forms.CheckboxSelectMultiple
    )
    into = forms.CharField(label="Join them as", max_length=100, required=False)
    most = forms.IntegerField(label="Rows of each class to train on, at most", required=False, min_value=1)

    def __init__(self, column: dict[str, Any], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.column = column
        counts: dict[str, int] = {}
        for split in (column.get("counts") or {}).values():
            for name, count in split.items():
                counts[name] = counts.get(name, 0) + count
        chosen = set(self["labels"].data or [])
        self.classes = [
            (number, name, counts.get(name, 0), str(number) in chosen)
            for number, name in enumerate(column["names"])
        ]
        field = self.fields["labels"]
        assert isinstance(field, forms.TypedMultipleChoiceField)
        field.choices = [(number, name) for number, name, _, _ in self.classes]

    @property
    def may_drop(self) -> bool:
        """Rows have one class each: those of a class can go."""
        return bool(self.column["kind"] == "label")

    def asked(self) -> dict[str, Any]:
        """As changing.request_change takes it: which button was pressed says what."""
        said, name = self.cleaned_data, self.column["name"]
        labels = [self.column["names"][number] for number in said["labels"]]
        if "cap" in self.data:
            return {"op": "cap_class", "column": name, "most": said["most"] or 0}
        if "drop" in self.data:
            return {"op": "drop_labels", "column": name, "labels": labels}
        return {"op": "merge_labels", "column": name, "labels": labels, "into": said["into"]}


class SplitForm(forms.Form):
    """How the rows of a version are to be split. It is made of an address and of a form that was sent alike."""

    how = forms.ChoiceField(widget=forms.RadioSelect)
    column = forms.ChoiceField(required=False)
    validation = forms.FloatField(label="To validate", required=False)
    test = forms.FloatField(label="To test", required=False)
    folds = forms.IntegerField(required=False)
    fold = forms.IntegerField(label="Fold that tests", required=False)
    every = forms.BooleanField(label="Make a version of each fold", required=False)
    seed = forms.IntegerField(required=False, min_value=0, help_text="The same seed draws the same rows.")

    values_found: list[str]  # of the column that tells the split

    def __init__(self, version: DatasetVersion, said: Mapping[str, Any]) -> None:
        usual = {"how": "stratified", "validation": 10, "test": 10, "folds": 5, "fold": 1, "seed": SEED}
        label = (version.suggested or {}).get("columns", {}).get("label", "")
        asked = {name: said.get(name) for name in self.base_fields if said.get(name) not in (None, "")}
        if said.get("how") is None:
            asked.setdefault("column", label)
        data = {**usual, **asked}
        super().__init__(data)
        self.said, self.values_found = said, []
        self.way = str(asked.get("how", "stratified")) if asked.get("how") in WAYS else "stratified"
        kinds = WAYS[self.way].kinds
        fitting = [each["name"] for each in version.columns if each["kind"] in kinds]
        first = [
            ("", "Choose a column" if WAYS[self.way].needs_column else "None: rows are drawn as they come")
        ]
        for name, choices in (
            ("how", [(slug, way.title) for slug, way in WAYS.items()]),
            ("column", [*first, *((each, each) for each in fitting)]),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = choices
        self.by = str(asked.get("column", "")) if asked.get("column") in fitting else ""
        data["column"] = self.by
        shown = {
            "stratified": ("column", "validation", "test", "seed"),
            "group": ("column", "validation", "test", "seed"),
            "time": ("column", "validation", "test"),
            "kfold": ("column", "folds", "fold", "every", "seed"),
            "column": ("column",),
        }[self.way]
        self.shown = [self[name] for name in shown]

    def value_choices(self) -> list[tuple[str, str, str, str]]:
        """(name of the control, value, shown, split that was chosen) of each value of the column."""
        return [
            (f"value-{place}", value, value or "(empty)", str(self.said.get(f"value-{place}") or "train"))
            for place, value in enumerate(self.values_found)
        ]

    @property
    def trouble(self) -> str:
        """What is wrong with what was typed into the controls that are shown, as a sentence; empty if nothing is."""
        wrong = next((each for each in self.shown if each.errors), None)
        return f"{wrong.label}: {wrong.errors[0]}" if wrong is not None else ""

    def asked(self) -> dict[str, Any]:
        """As changing.request_change takes it, where there is no trouble."""
        self.full_clean()
        clean = self.cleaned_data
        asked: dict[str, Any] = {"op": "split", "how": self.way, "column": self.by}
        if self.way in ("stratified", "group", "time"):
            for name in ("validation", "test"):
                asked[name] = float(clean.get(name) or 0) / 100
        if self.way == "kfold":
            asked |= {"folds": clean.get("folds") or 0, "fold": clean.get("fold") or 0}
            asked["every"] = bool(clean.get("every"))
            if asked["every"]:
                asked["fold"] = 1
        if self.way == "column":
            asked["values"] = {value: split for _, value, _, split in self.value_choices()}
        elif self.way != "time":
            seed = clean.get("seed")
            asked["seed"] = SEED if seed is None else seed
        return asked


def add_errors(form: forms.Form, fields: Mapping[str, str]) -> None:
    """Say what is wrong beside the controls of these names, and above the form where it has none of a name."""
    for name, message in fields.items():
        form.add_error(name if name in form.fields else None, message)


class RenameForm(forms.ModelForm):  # type: ignore[type-arg]
    """Name and description."""

    class Meta:
        model = Dataset
        fields = ("name", "description")
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}
