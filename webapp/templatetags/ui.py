"""What every page uses: icons, form controls, and numbers, sizes, durations and times for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import template
from django.core.paginator import Paginator
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, RadioSelect, Select
from django.template.defaultfilters import date as format_date
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

SIZE_UNITS = ("B", "KB", "MB", "GB", "TB")
NO_VALUE = "–"


@register.simple_tag
def icon(name: str, label: str = "", css: str = "") -> SafeString:
    """An icon of the sprite (`make vendor` adds newly named ones). Without a label it is decoration."""
    address = f"{static('vendor/tabler-icons/sprite.svg')}#{name}"
    if label:
        return format_html(
            '<svg class="icon {}" role="img" aria-label="{}"><use href="{}"></use></svg>', css, label, address
        )
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}"></use></svg>', css, address
    )


@register.filter
def size(count: float | None) -> str:
    """Bytes as `86.7 MB` (1 MB = 1,000,000 bytes, as disks and hubs count)."""
    if count is None:
        return NO_VALUE
    text, unit = _scaled(count, SIZE_UNITS)
    return f"{text} {unit}"


def _scaled(count: float, units: Sequence[str]) -> tuple[str, str]:
    """A count in the largest of units of 1,000 that leaves at least 1, as it is rounded: `86.7`, `123`."""
    value = float(count)
    for power, unit in enumerate(units):
        text = f"{value:.0f}" if power == 0 or abs(value) >= 99.95 else f"{value:.1f}"
        if abs(float(text)) < 1000 or unit == units[-1]:
            return text, unit
        value /= 1000
    raise AssertionError("unreachable")


@register.filter
def number(value: float | None) -> str:
    """`12,345`, or up to four significant digits of a fraction: `0.8493`, `3.2e-05`."""
    if value is None:
        return NO_VALUE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


@register.filter
def compact(value: float | None) -> str:
    """`22.7M`, `1.5K`, for counts where the exact number does not matter."""
    if value is None:
        return NO_VALUE
    text, unit = _scaled(value, ("", "K", "M", "B", "T"))
    return text.removesuffix(".0") + unit


@register.filter
def percent(share: float | None) -> str:
    """A share from 0 to 1 as `84.9 %`."""
    return NO_VALUE if share is None else f"{share * 100:.1f} %"


@register.filter
def duration(seconds: float | None) -> str:
    """`8 s`, `3 min 20 s`, `1 h 12 min`, `2 d 4 h`: the two largest units. static/js/clock.js agrees."""
    if seconds is None:
        return NO_VALUE
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{rest} s"


@register.filter
def ago(moment: datetime | None) -> SafeString | str:
    """`3 min ago` in a <time> that tells the exact moment; static/js/clock.js keeps it right."""
    if moment is None:
        return NO_VALUE
    exact = format_date(timezone.localtime(moment), "j M Y, H:i")
    passed = (timezone.now() - moment).total_seconds()
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>', moment.isoformat(), exact, _ago(passed, exact)
    )


def _ago(seconds: float, exact: str) -> str:
    if seconds < 10:
        return "just now"
    if seconds < 60:
        return f"{int(seconds)} s ago"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h ago"
    if seconds < 7 * 86400:
        return f"{int(seconds // 86400)} d ago"
    return exact


@register.filter
def in_sentence(title: str) -> str:
    """A title as it stands within a sentence: `whole model`, but `LoRA adapters` and `F1` as they are."""
    rest_of_word = title.partition(" ")[0][1:].rstrip(",:")
    is_acronym = rest_of_word != rest_of_word.lower() or rest_of_word.isdigit()
    return title if is_acronym else title[:1].lower() + title[1:]


@register.filter
def get(mapping: Any, key: Any) -> Any:
    """`mapping[key]` for a key held in a variable; None if it is not there."""
    try:
        return mapping[key]
    except (KeyError, IndexError, TypeError):
        return None


@register.filter
def control(field: BoundField) -> SafeString:
    """A form field's widget with the framework's classes, and tied to its help and its error."""
    widget = field.field.widget
    described = [f"{field.auto_id}_help"] if field.help_text else []
    attributes: dict[str, Any] = {}
    if isinstance(widget, CheckboxInput | RadioSelect | CheckboxSelectMultiple):
        css = "form-check-input"
    else:
        css = "form-select" if isinstance(widget, Select) else "form-control"
    css = f"{css} {widget.attrs.get('class', '')}".strip()
    if field.errors:
        css += " is-invalid"
        attributes["aria-invalid"] = "true"
        described.insert(0, f"{field.auto_id}_error")
    attributes["class"] = css
    if described:
        attributes["aria-describedby"] = " ".join(described)
    return field.as_widget(attrs=attributes)


@register.filter
def is_checkbox(field: BoundField) -> bool:
    """Whether the label stands behind the control."""
    return isinstance(field.field.widget, CheckboxInput)


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """This page's query string with some parameters changed; empty ones leave it. `?page=2&status=…`."""
    parameters = context["request"].GET.copy()
    for name, value in changes.items():
        if value in (None, ""):
            parameters.pop(name, None)
        else:
            parameters[name] = str(value)
    return f"?{parameters.urlencode()}"


@register.simple_tag(takes_context=True)
def is_here(context: template.Context, *namespaces: str) -> bool:
    """Whether the page belongs to one of these URL namespaces or names: marks where one is."""
    match = getattr(context.get("request"), "resolver_match", None)
    return match is not None and bool({match.namespace, match.view_name} & set(namespaces))


@register.filter
def words(text: str) -> list[str]:
    """Split at spaces, to loop over a few fixed names."""
    return text.split()


@register.filter
def elided(paginator: Paginator[Any], number: int) -> list[int | str]:
    """Page numbers around this one, with `…` for those left out."""
    return list(paginator.get_elided_page_range(number, on_each_side=2, on_ends=1))
