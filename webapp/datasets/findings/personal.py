"""Hints of personal data: e-mail addresses, telephone numbers, card numbers. Hints, no proof either way.

A model may repeat word for word what it was trained on, so whoever trains should know. Pages show such
values masked (`masked`); the rows themselves stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from webapp.datasets.columns import quoted
from webapp.datasets.findings import Rows, plural
from webapp.datasets.problems import Problem

# Read by RE2 in DuckDB and by Python alike: no look-around.
EMAIL = r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}"
PHONE = r"(?:\+|\b00)[1-9](?:[ ()./-]{0,2}[0-9]){7,14}\b"  # with its country: others look like any number
CARD = r"\b[3-6](?:[ -]?[0-9]){12,18}\b"
DIGITS = re.compile(r"[0-9]")
MOST_CANDIDATES = 20_000  # numbers that are looked at one by one
KINDS = ("text", "messages", "json")
# A pattern, what makes it worth trying (a plain search is many times faster), what it is called.
LOOKS = (
    (EMAIL, "contains({0}, '@')", "an e-mail address"),
    (PHONE, "(contains({0}, '+') OR contains({0}, '00'))", "a telephone number"),
    (CARD, "regexp_matches({0}, '[0-9][0-9 -]{{10}}')", "a card number"),
)


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    for column in rows.columns:
        if column.kind not in KINDS:
            continue
        name = quoted(column.name) if column.kind == "text" else f"{quoted(column.name)}::VARCHAR"
        for pattern, worth, what in LOOKS:
            found = _found(rows, name, pattern, worth.format(name))
            if found is None:
                continue
            count, split, row = found
            add(
                Problem(
                    f"personal_{what.split()[1].replace('-', '')}",
                    f"{plural(count, 'row')} of “{column.name}” {'holds' if count == 1 else 'hold'} what looks like {what}.",
                    "A trained model may repeat it. Remove it from the file if it must not be learnt; "
                    "pages show it masked.",
                    severity="warning",
                    split=split,
                    row=row,
                    column=column.name,
                    count=count,
                )
            )


def _found(rows: Rows, name: str, pattern: str, worth: str) -> tuple[int, str, int] | None:
    """(rows, split and number of the first), None if there are none."""
    quoted_pattern = pattern.replace("'", "''")
    where = f"FROM rows WHERE {worth} AND regexp_matches({name}, '{quoted_pattern}')"
    if pattern != CARD:
        count, split, row = rows.ask(
            f'SELECT count(*), min_by("*split", ("*split", "*row")), min_by("*row", ("*split", "*row")) {where}'
        )[0]
        return (int(count), split, int(row)) if count else None
    candidates: list[tuple[Any, ...]] = rows.ask(
        f'SELECT "*split", "*row", regexp_extract_all({name}, \'{quoted_pattern}\') {where}'
        f' ORDER BY "*split", "*row" LIMIT {MOST_CANDIDATES}'
    )
    real = [(split, int(row)) for split, row, numbers in candidates if any(is_card(each) for each in numbers)]
    return (len(real), *real[0]) if real else None


def is_card(number: str) -> bool:
    """Whether the last digit is the one that Luhn's formula (ISO/IEC 7812-1) gives for the others."""
    digits = [int(digit) for digit in DIGITS.findall(number)]
    doubled = [
        digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits[::-1])
    ]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


_MASKED = re.compile(f"(?P<email>{EMAIL})|(?P<phone>{PHONE})|(?P<card>{CARD})")


def masked(text: str) -> str:
    """The text with what looks like personal data hidden, for a page."""
    if "@" not in text and not DIGITS.search(text):
        return text
    return _MASKED.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    found = match.group()
    if match.lastgroup == "email":
        return f"{found[0]}•••@•••"
    if match.lastgroup == "card" and not is_card(found):
        return found
    return f"{found[:2]}•••{found[-2:]}"
