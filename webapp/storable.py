"""Whether Postgres can keep a value of JSON that somebody sent: it knows fewer texts and numbers than Python does."""

from __future__ import annotations

import math
from typing import Any


def findable(text: str) -> str:
    """A text to look rows up by; empty where none can have it."""
    return "" if fault_of(text) else text


def fault_of(value: Any) -> str:
    """Why the value, or one inside it, cannot be kept, as the end of a sentence about its field; empty if it can."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            return "has a character that is no text (NUL, or half a surrogate pair); leave it out"
    elif isinstance(value, float):
        if not math.isfinite(value):
            return "is no number; leave it out"
    elif isinstance(value, dict):
        return next(filter(None, (fault_of(key) or fault_of(item) for key, item in value.items())), "")
    elif isinstance(value, list):
        return next(filter(None, map(fault_of, value)), "")
    return ""
