"""What one chooses about a way to be told."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings

from runs.models import Channel
from runs.notifications import channels
from runs.notifications.channels import LONGEST_STALL, ChannelError


class ChannelForm(forms.Form):
    """Of which happenings, of whose runs; what all channels have."""

    enabled = forms.BooleanField(required=False, label="On")
    happenings = forms.MultipleChoiceField(
        choices=Channel.Happening.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Tell me when",
    )
    scope = forms.ChoiceField(choices=Channel.Scope.choices, widget=forms.RadioSelect, label="Of")
    stall_minutes = forms.IntegerField(
        required=False, min_value=1, max_value=LONGEST_STALL, label="A run stalls after"
    )

    def __init__(self, *args: Any, channel: Channel | None = None, kind: str = "", **more: Any) -> None:
        shown = channel or Channel(kind=kind, happenings=[str(item) for item in Channel.USUAL], enabled=False)
        values = {name: getattr(shown, name) for name in ("enabled", "happenings", "scope", "stall_minutes")}
        if channel is not None and channel.kind == Channel.Kind.WEBHOOK:
            values |= {"name": channel.name, "url": channels.url_of(channel)}
        more |= {"initial": values, "auto_id": f"{shown.kind}_%s"}  # three forms stand on one page
        super().__init__(*args, **more)
        if settings.STALL_MINUTES:
            self.fields["stall_minutes"].widget.attrs["placeholder"] = f"{settings.STALL_MINUTES:g}"

    def take_back(self, refused: ChannelError) -> None:
        """Put what the domain found wrong beside the fields."""
        for field, message in refused.fields.items():
            self.add_error(field if field in self.fields else None, message)


class WebhookForm(ChannelForm):
    name = forms.CharField(
        max_length=100,
        required=False,
        label="Name",
        help_text="So that you know it again: “Chat of the lab”.",
    )
    url = forms.CharField(
        max_length=2000,
        label="Address",
        widget=forms.URLInput(attrs={"placeholder": "https://example.org/hooks/tuneboard"}),
        help_text="Where Tuneboard sends a POST with JSON.",
    )
