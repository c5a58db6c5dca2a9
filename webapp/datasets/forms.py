"""What people say about a dataset: files and hints when they upload it, a name later."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from webapp.datasets import suggestion
from webapp.datasets.formats import all_extensions
from webapp.datasets.models import Dataset

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
        required=False, max_length=200, label="Name here", help_text="Left empty, it is the hub's."
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


class RenameForm(forms.ModelForm):  # type: ignore[type-arg]
    """Name and description; the rows of a dataset never change."""

    class Meta:
        model = Dataset
        fields = ("name", "description")
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}
