"""What people type about themselves and each other."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.validators import UnicodeUsernameValidator

from webapp.accounts.models import Membership, User, Workspace


class SignInForm(AuthenticationForm):
    """User name and password."""

    error_messages = {
        "invalid_login": "This user name and password do not go together. Both mind upper and lower case.",
        "inactive": "This account has been closed.",
    }


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ["first_name", "last_name", "email"]
        labels = {"email": "E-mail"}


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        label="Name",
        help_text="What it is for, so that you know it again: “nightly training”.",
    )


class MemberForm(forms.Form):
    """Somebody to let into the workspace, by user name; made if there is nobody of that name."""

    username = forms.CharField(max_length=150, label="User name", validators=[UnicodeUsernameValidator()])
    role = forms.ChoiceField(choices=Membership.Role.choices, initial=Membership.Role.MEMBER)


class LimitsForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a workspace may take of the workers; for site administrators."""

    queue_weight = forms.FloatField(
        label="Share",
        min_value=0.01,
        max_value=1000,
        help_text="Beside other workspaces: one with 2 gets twice as much as one with 1.",
    )
    gpu_hours_a_day = forms.FloatField(
        label="GPU-hours a day",
        required=False,
        min_value=0,
        max_value=1_000_000,
        widget=forms.NumberInput(attrs={"step": "any", "placeholder": "no limit"}),
        help_text="GPUs × hours. Once they are used, no run that needs a GPU starts until midnight.",
    )

    class Meta:
        model = Workspace
        fields = ["max_concurrent_runs", "gpu_hours_a_day", "queue_weight"]
        labels = {"max_concurrent_runs": "Runs at once"}
        help_texts = {"max_concurrent_runs": "Others wait in the queue. 0: none starts."}
        widgets = {"max_concurrent_runs": forms.NumberInput(attrs={"placeholder": "no limit", "min": 0})}


class WorkspaceForm(forms.Form):
    name = forms.CharField(max_length=100, label="Name")

    def clean_name(self) -> Any:
        return self.cleaned_data["name"].strip()
