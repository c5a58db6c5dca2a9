"""A picture of a row, as nothing but a picture."""

from __future__ import annotations

from django.http import HttpResponse

from webapp.datasets import masks
from webapp.datasets.models import DatasetVersion
from webapp.datasets.preview import LARGEST_PICTURE, content_type
from webapp.datasets.reading import rows_of
from webapp.datasets.shards import NotHere


def picture_response(version: DatasetVersion, split: str, row: int, column: int) -> HttpResponse | None:
    """What stands in a column (counted from 0) of a row (counted from 1); None if no browser should be given it.

    Of a mask: see-through colours, to be laid over a picture.
    """
    if split not in version.splits or not 1 <= row <= version.splits[split]:
        return None
    if column >= len(version.columns) or version.columns[column]["kind"] not in {"image", "mask"}:
        return None
    try:
        with rows_of(version, split) as rows:
            found = rows.one(row - 1, version.columns[column]["name"])
    except NotHere:
        return None
    data = (found or {}).get("bytes") or b""
    if version.columns[column]["kind"] == "mask":
        data = masks.laid_over(data, version.columns[column].get("names") or [])
    kind = content_type(data)
    if not kind or len(data) > LARGEST_PICTURE:
        return None
    response = HttpResponse(data, content_type=kind)
    response["Content-Disposition"] = f'inline; filename="{split}-{row}"'
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, max-age=3600"
    return response
