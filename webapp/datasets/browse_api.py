"""Rows of a dataset by HTTP, and the dataset to take away."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from ninja import Query, Router, Schema

from webapp.api import ERRORS, ApiError
from webapp.datasets.api_common import dataset_of, version_of
from webapp.datasets.browsing import RowFilter, known_count, page_of
from webapp.datasets.exporting import EXPORTS, CannotExport, export_response
from webapp.datasets.models import DatasetVersion
from webapp.datasets.row_pictures import picture_response
from webapp.datasets.shards import NotHere
from webapp.datasets.showing import named

router = Router(tags=["datasets"])
LONGEST = 65_536  # characters of a value; downloads have all of them
MOST = 200


class RowOut(Schema):
    """`row` counts from 1 in its split. A text over 65,536 characters is cut; a picture or mask is {"picture": address}, a recording its name."""

    row: int
    values: dict[str, Any]


class RowsOut(Schema):
    """`next` and `previous`: `start` and `end` of the pages beside this one. `looked_to`: the search stopped there."""

    split: str
    version: str
    items: list[RowOut]
    count: int | None
    next: int | None
    previous: int | None
    looked_to: int | None


@router.get("{int:dataset_id}/rows", response={200: RowsOut, **ERRORS}, summary="Look at rows")
def rows(
    request: HttpRequest,
    dataset_id: int,
    split: str = "",
    q: str = Query("", max_length=200, description="words in the texts"),  # type: ignore[type-arg]
    column: str = Query("", description="with `value`: a column of classes"),  # type: ignore[type-arg]
    value: str = Query("", description="the class, by its name"),  # type: ignore[type-arg]
    start: int = Query(0, ge=0, le=2**53, description="the first row to look at"),  # type: ignore[type-arg]
    end: int = Query(0, ge=0, le=2**53, description="or the last"),  # type: ignore[type-arg]
    limit: int = Query(50, ge=1, le=MOST),  # type: ignore[type-arg]
    version: str = Query("", description="its number or content hash; left out: the one that new runs get"),  # type: ignore[type-arg]
) -> dict[str, Any]:
    """From a row on, in their order. A search stops after five seconds: go on from `next` then."""
    found = version_of(dataset_of(request, dataset_id), version)
    form = RowFilter(found, {"split": split, "q": q, "start": start or "", "end": end or ""})
    if split and split not in form.splits:
        raise ApiError(
            422, "invalid", f"There is no split “{split}”.", {"split": f"one of: {', '.join(form.splits)}"}
        )
    asked = replace(form.asked(), limit=limit)
    if column or value:
        named = [each for each in form.values.values() if each[:2] == (column, value)]
        if not named:
            told = f"“{column}” has no class “{value}”."
            raise ApiError(422, "invalid", told, {"value": told})
        asked = replace(asked, value=(column, named[0][2]), value_name=value)
    page = page_of(found, asked)
    if page.trouble:
        raise ApiError(409, "unavailable", page.trouble)
    query = f"?{urlencode({'version': version})}" if version else ""
    return {
        "split": asked.split,
        "version": found.content_hash,
        "items": [
            {"row": row.number, "values": _values(found, dataset_id, asked.split, row, query)}
            for row in page.rows
        ],
        "count": known_count(found, asked, page),
        "next": page.next or None,
        "previous": page.previous or None,
        "looked_to": page.looked_to or None,
    }


def _values(version: DatasetVersion, dataset_id: int, split: str, row: Any, query: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for number, column in enumerate(version.columns):
        name, kind = column["name"], column["kind"]
        value = row.stored.get(name)
        if value is None:
            told[name] = None
        elif kind == "label":
            told[name] = row.cells[number].value
        elif kind == "json":
            told[name] = json.loads(value) if len(value) <= LONGEST else value[:LONGEST]
        elif kind == "objects":
            names = column.get("names") or []
            told[name] = {**value, "category": [named(code, names) for code in value["category"]]}
        elif kind == "tags":
            told[name] = [named(code, column.get("names") or []) for code in value]
        elif kind == "audio":
            told[name] = {"path": value["path"]}
        elif kind in {"image", "mask"}:
            address = reverse("api:row_picture", args=[dataset_id, split, row.number, number])
            told[name] = {"picture": f"{address}{query}"}
        else:
            told[name] = value[:LONGEST] if isinstance(value, str) else value
    return told


@router.get(
    "{int:dataset_id}/rows/{split}/{int:row}/{int:column}",
    response={200: None, **ERRORS},
    summary="A picture of a row",
    url_name="row_picture",
)
def row_picture(
    request: HttpRequest, dataset_id: int, split: str, row: int, column: int, version: str = ""
) -> HttpResponseBase:
    """`column` counts from 0. PNG, JPEG, GIF or WebP of at most 5 MB; downloads have the others."""
    response = picture_response(version_of(dataset_of(request, dataset_id), version), split, row, column)
    if response is None:
        raise ApiError(404, "not_found", "There is no such picture.")
    return response


@router.get("{int:dataset_id}/download/{kind}", response={200: None, **ERRORS}, summary="Download a dataset")
def download(
    request: HttpRequest, dataset_id: int, kind: str, split: str = "", version: str = ""
) -> HttpResponseBase:
    """`kind`: parquet, csv, jsonl or huggingface. Several splits come as a zip; one of Parquet supports Range."""
    found = version_of(dataset_of(request, dataset_id), version)
    try:
        return export_response(request, found, kind, split)
    except KeyError:
        raise ApiError(404, "not_found", f"There is {', '.join(EXPORTS)}.") from None
    except CannotExport as error:
        raise ApiError(422, "invalid", str(error)) from error
    except NotHere as error:
        raise ApiError(409, "unavailable", str(error)) from error
