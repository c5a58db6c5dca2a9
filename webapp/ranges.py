"""The header by which a browser asks for a part of a file."""

from __future__ import annotations

import re


def parse_range(header: str, size: int) -> tuple[int, int] | str | None:
    """(first, last) of one byte range; "unsatisfiable"; None where the header is to be ignored (RFC 9110)."""
    found = re.fullmatch(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", header)
    if found is None or not (found[1] or found[2]):
        return None  # several ranges, or nonsense: the whole file is a right answer
    if not found[1]:  # the last n bytes
        length = min(int(found[2]), size)
        return (size - length, size - 1) if length else "unsatisfiable"
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None
    return (first, last) if first < size else "unsatisfiable"
