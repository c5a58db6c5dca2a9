"""Numbers, sizes, durations and times as people read them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django import forms
from django.core.paginator import Paginator
from django.http import QueryDict
from django.template import Context, Template
from django.test import RequestFactory
from django.utils import timezone

from webapp.templatetags import ui


@pytest.mark.parametrize(
    ("title", "within"),
    [
        ("Head on features", "head on features"),
        ("LoRA adapters", "LoRA adapters"),
        ("QLoRA", "QLoRA"),
        ("F1, mean over classes", "F1, mean over classes"),
        ("Text-to-speech", "text-to-speech"),
        ("", ""),
    ],
)
def test_a_title_within_a_sentence_begins_small_unless_it_begins_with_an_acronym(
    title: str, within: str
) -> None:
    assert ui.in_sentence(title) == within


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (86_700_000, "86.7 MB"),
        (123_456_789, "123 MB"),
        (99_960_000, "100 MB"),
        (999_960, "1.0 MB"),
        (5e9, "5.0 GB"),
        (3e16, "30000 TB"),
    ],
)
def test_sizes(count: float | None, text: str) -> None:
    assert ui.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (12345, "12,345"),
        (0.84931, "0.8493"),
        (0.000032, "3.2e-05"),
        (1234.6, "1,235"),
        (-2.5, "-2.5"),
        (3.0, "3"),
        (float("nan"), "nan"),
        (True, "True"),
        ("bf16", "bf16"),
    ],
)
def test_numbers(value: Any, text: str) -> None:
    assert ui.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (999, "999"),
        (1500, "1.5K"),
        (2000, "2K"),
        (999_950, "1M"),
        (22_713_216, "22.7M"),
        (134_515_008, "135M"),
        (7e9, "7B"),
    ],
)
def test_counts_in_short(value: float | None, text: str) -> None:
    assert ui.compact(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-3, "0 s"),
        (8.4, "8 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (4320, "1 h 12 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert ui.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (3, "just now"),
        (45, "45 s ago"),
        (200, "3 min ago"),
        (7300, "2 h ago"),
        (3 * 86400 + 5, "3 d ago"),
    ],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    moment = timezone.now() - timedelta(seconds=seconds)
    shown = str(ui.ago(moment))
    assert f">{text}</time>" in shown and f'datetime="{moment.isoformat()}"' in shown


def test_what_is_long_ago_is_told_by_its_date() -> None:
    moment = timezone.now() - timedelta(days=30)
    assert timezone.localtime(moment).strftime("%Y, %H:%M</time>") in str(ui.ago(moment))
    assert ui.ago(None) == "–"


def test_shares() -> None:
    assert (ui.percent(0.8493), ui.percent(None)) == ("84.9 %", "–")


def test_a_query_keeps_what_is_not_changed_and_escapes_what_is() -> None:
    request = RequestFactory().get("/runs?status=failed&page=3&q=a%26b")
    shown = Template('{% load ui %}{% query page=2 status="" name="<b>" %}').render(
        Context({"request": request})
    )
    found = QueryDict(shown.removeprefix("?").replace("&amp;", "&"))
    assert found.dict() == {"q": "a&b", "page": "2", "name": "<b>"}
    assert "<b>" not in shown


def test_an_icon_is_decoration_unless_it_has_a_name() -> None:
    assert 'aria-hidden="true"' in ui.icon("rocket")
    named = ui.icon("rocket", label='Start "it"')
    assert 'role="img"' in named and "&quot;it&quot;" in named and "aria-hidden" not in named


def test_a_control_is_tied_to_its_help_and_its_error() -> None:
    class Rows(forms.Form):
        rows = forms.IntegerField(help_text="How many.")
        shuffle = forms.BooleanField(required=False)

    bound = Rows({"rows": "many"})
    shown = ui.control(bound["rows"])
    assert 'aria-describedby="id_rows_error id_rows_help"' in shown
    assert 'aria-invalid="true"' in shown and "form-control is-invalid" in shown
    assert "form-check-input" in ui.control(bound["shuffle"])
    assert ui.is_checkbox(bound["shuffle"]) and not ui.is_checkbox(bound["rows"])


def test_a_key_that_is_not_there_is_none() -> None:
    assert ui.get({"a": 1}, "a") == 1
    assert [ui.get({}, "a"), ui.get([1], 3), ui.get(None, "a")] == [None, None, None]


def test_long_lists_of_pages_are_cut_in_the_middle() -> None:
    assert ui.elided(Paginator(range(200), 10), 10) == [1, "…", 8, 9, 10, 11, 12, "…", 20]
