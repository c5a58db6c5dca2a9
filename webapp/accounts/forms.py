"""What people type about themselves and each other."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.validators import UnicodeUsernameValidator

from webapp.accounts.models import Membership, User


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


class WorkspaceForm(forms.Form):
    name = forms.CharField(max_length=100, label="Name")

    def clean_name(self) -> Any:
        return self.cleaned_data["name"].strip()
