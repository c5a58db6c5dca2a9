"""Hints of personal data: e-mail addresses, telephone numbers, card numbers. Hints, no proof either way.

A model may repeat word for word what it was trained on, so whoever trains should know. Pages show such
values masked (`masked`); the rows themselves stay as they are.
"""

# Column names are quoted by `quoted`; the patterns are ours.
# ruff: noqa: S608
from __future__ import annotations

import re
from collections.abc import Callable

from webapp.datasets.columns import quoted
from webapp.datasets.findings import ROW, SPLIT, Rows, plural
from webapp.datasets.problems import Problem

# Read by RE2 in DuckDB and by Python alike: no look-around.
EMAIL = r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}"
PHONE = r"(?:\+|\b00)[1-9](?:[ ()./-]{0,2}[0-9]){7,14}\b"  # with its country: others look like any number
CARD = r"\b[3-6](?:[ -]?[0-9]){12,18}\b"
DIGITS = re.compile(r"[0-9]")
KINDS = ("text", "messages", "json")
# The same as `is_card`, of the digits of a number.
LUHN = (
    "(len({0}) BETWEEN 13 AND 19 AND {0} <> repeat({0}[1], len({0})) AND list_sum(list_transform(range(len({0})),"
    " lambda place: CASE WHEN place % 2 = 0 THEN {0}[len({0}) - place]::INTEGER ELSE"
    " 2 * {0}[len({0}) - place]::INTEGER - CASE WHEN {0}[len({0}) - place] > '4' THEN 9 ELSE 0 END END)) % 10 = 0)"
)
# What makes a pattern worth trying (a plain search is many times faster), the pattern, what it is called.
LOOKS = {
    "personal_email": ("contains({0}, '@')", EMAIL, "an e-mail address"),
    "personal_telephone": ("(contains({0}, '+') OR contains({0}, '00'))", PHONE, "a telephone number"),
    "personal_card": ("regexp_matches({0}, '[0-9][0-9 -]{{10}}')", CARD, "a card number"),
}


def select_personal(rows: Rows, code: str, column: str) -> str:
    """(split, row) of the rows with such a value (`code`: a key of LOOKS) in a column."""
    kind = next(each.kind for each in rows.columns if each.name == column)
    name = quoted(column) if kind == "text" else f"{quoted(column)}::VARCHAR"
    worth, pattern, _ = LOOKS[code]
    said = "'" + pattern.replace("'", "''") + "'"
    where = f"{worth.format(name)} AND regexp_matches({name}, {said})"
    if pattern == CARD:
        if rows.once("is_luhn"):
            rows.connection.execute(f"CREATE MACRO is_luhn(digits) AS {LUHN.format('digits')}")
        digits = f"list_transform(regexp_extract_all({name}, {said}), lambda n: regexp_replace(n, '[^0-9]', '', 'g'))"
        where = f"CASE WHEN {where} THEN len(list_filter({digits}, lambda n: is_luhn(n))) > 0 ELSE false END"
    return f"SELECT {SPLIT} AS split, {ROW} AS row FROM rows WHERE {where}"


SELECTS = {code: lambda rows, code, column, _split: select_personal(rows, code, column) for code in LOOKS}


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    for column in rows.columns:
        if column.kind not in KINDS:
            continue
        for code, (_, _, what) in LOOKS.items():
            count, least = rows.ask(
                f"SELECT count(*), min((split, row)) FROM ({select_personal(rows, code, column.name)})"
            )[0]
            if not count:
                continue
            add(
                Problem(
                    code,
                    f"{plural(count, 'row')} of “{column.name}” {'holds' if count == 1 else 'hold'} what looks like {what}.",
                    "A trained model may repeat it. Remove it from the file if it must not be learnt; "
                    "pages show it masked.",
                    severity="warning",
                    split=least[0],
                    row=int(least[1]),
                    column=column.name,
                    count=count,
                )
            )


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
