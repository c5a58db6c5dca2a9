"""Taking a version away: as the Parquet files that it is stored as, CSV, JSON Lines, or a folder for `datasets`.

Stored files are sent as they are, in part where asked (Range) and with their SHA-256. Everything else is made while it
is sent, a row group at a time, so memory does not depend on the rows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import yaml
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.utils.text import slugify
from zipstream import ZIP_DEFLATED, ZIP_STORED, ZipStream

from webapp import serving, storage
from webapp.datasets import cells, parquet_files
from webapp.datasets.canonical import ROWS_AT_ONCE
from webapp.datasets.formats.apostrophes import escaped
from webapp.datasets.models import DatasetVersion
from webapp.datasets.reading import rows_of
from webapp.datasets.shards import NotHere, Shard, shards_of


class CannotExport(Exception):
    """The version cannot be had so; the message says why and how instead."""


@dataclass(frozen=True)
class Export:
    """A way to take a version away."""

    slug: str
    title: str
    note: str
    takes_files: bool  # whether pictures and recordings fit into it


EXPORTS = {
    export.slug: export
    for export in (
        Export("parquet", "Parquet", "The stored files: nothing is lost.", True),
        Export("csv", "CSV", "For spreadsheets. Types, and what is nested, become text.", False),
        Export("jsonl", "JSON Lines", "For programs; nested values stay nested.", False),
        Export("huggingface", "HF datasets folder", "datasets.load_dataset(folder) reads it.", True),
    )
}


def offered(version: DatasetVersion) -> list[Export]:
    """The ways in which this version can be had."""
    files = cells.holds_files(version.columns)
    return [export for export in EXPORTS.values() if export.takes_files or not files]


def export_response(
    request: HttpRequest, version: DatasetVersion, kind: str, split: str = ""
) -> HttpResponseBase:
    """The version, or one split of it; raises KeyError for an unknown kind, CannotExport, NotHere, Http404."""
    export = EXPORTS[kind]
    if export not in offered(version):
        raise CannotExport(
            f"Pictures and recordings do not fit into {export.title}. Take Parquet or the HF datasets folder."
        )
    if split and split not in version.splits:
        raise CannotExport(f"There is no split “{split}”. There are: {', '.join(version.splits)}.")
    shards = [shard for shard in shards_of(version, split) if version.splits.get(shard.split)]
    if not shards:
        raise NotHere("These rows are no longer in storage. Upload the dataset again.")
    name = f"{slugify(version.dataset.name)[:60] or 'dataset'}-{version.content_hash[:8]}"
    if kind == "parquet":
        return _parquet(request, shards, name, split)
    if kind == "huggingface":
        return _huggingface(version, shards, name)
    make, extension, media = {
        "csv": (csv_of, "csv", "text/csv; charset=utf-8"),
        "jsonl": (jsonl_of, "jsonl", "application/jsonl; charset=utf-8"),
    }[kind]
    splits = list(dict.fromkeys(shard.split for shard in shards))
    if len(splits) == 1:
        chunks = make(version, splits[0])
        begun = (
            [] if request.method == "HEAD" else [next(chunks)]
        )  # what cannot be had is told before the headers
        response = StreamingHttpResponse(serving.Begun(begun, chunks), content_type=media)
        return _attached(response, f"{name}-{splits[0]}.{extension}")
    return _zip_of_made(version, splits, make, extension, name)


def _attached(response: StreamingHttpResponse, name: str) -> HttpResponseBase:
    response["Cache-Control"] = "private, no-store"
    return serving.attached(response, name)


def _parquet(request: HttpRequest, shards: list[Shard], name: str, split: str) -> HttpResponseBase:
    if len(shards) > 1:
        return _zip_of_stored([(f"{name}/{shard.name}", shard) for shard in shards], name)
    shard = shards[0]
    if shard.sha256 and shard.size is not None:
        file = serving.StoredFile(shard.key, f"{name}-{shard.name}", shard.size, shard.sha256)
        return serving.file_response(request, file)
    response = StreamingHttpResponse(_read(shard), content_type=serving.BYTES)  # made before sums were noted
    response["Content-Length"] = str(storage.size(shard.key))
    return _attached(response, f"{name}-{shard.name}")


def _read(shard: Shard) -> Iterator[bytes]:
    """Opened when its turn comes: a bucket's file is copied to this host's disk to be read."""
    yield from serving.read_whole(storage.open_file(shard.key))


def _zip_of_stored(
    files: list[tuple[str, Shard]], name: str, texts: dict[str, str] | None = None
) -> HttpResponseBase:
    stream = ZipStream(compress_type=ZIP_STORED, sized=True)
    for path, text in (texts or {}).items():
        stream.add(text, path)
    for path, shard in files:
        try:
            size = storage.size(shard.key)
        except FileNotFoundError:
            raise NotHere("These rows are no longer in storage. Upload the dataset again.") from None
        stream.add(_read(shard), path, size=size)
    response = StreamingHttpResponse(iter(stream), content_type="application/zip")
    response["Content-Length"] = str(len(stream))
    return _attached(response, f"{name}.zip")


def _zip_of_made(
    version: DatasetVersion,
    splits: list[str],
    make: Callable[[DatasetVersion, str], Iterator[bytes]],
    extension: str,
    name: str,
) -> HttpResponseBase:
    stream = ZipStream(compress_type=ZIP_DEFLATED, compress_level=1)
    for split in splits:
        stream.add(make(version, split), f"{name}/{split}.{extension}")
    return _attached(StreamingHttpResponse(iter(stream), content_type="application/zip"), f"{name}.zip")


# -- rows as text ------------------------------------------------------------------------------------
def _tables(version: DatasetVersion, split: str) -> Iterator[tuple[pa.Table, dict[str, Any]]]:
    """(rows, features) in pieces."""
    with rows_of(version, split) as rows:
        for file in rows.files:
            metadata = file.schema_arrow.metadata or {}
            features = json.loads(metadata[b"huggingface"])["info"]["features"]
            for batch in parquet_files.batches(file, ROWS_AT_ONCE):
                yield pa.Table.from_batches([batch]), features


def csv_of(version: DatasetVersion, split: str) -> Generator[bytes, None, None]:
    """A split as CSV in UTF-8; raises NotHere at its first piece."""
    kinds = {column["name"]: column["kind"] for column in version.columns}
    has_header = False
    for table, features in _tables(version, split):
        columns = [_csv_column(table.column(name), features[name], kinds.get(name)) for name in kinds]
        names = escaped(pa.array(list(kinds), pa.string())).to_pylist()
        sink = io.BytesIO()
        options = pa_csv.WriteOptions(include_header=not has_header, quoting_style="needed")
        pa_csv.write_csv(pa.Table.from_arrays(columns, names=names), sink, options)
        has_header = True
        yield sink.getvalue()


def _csv_column(values: Any, feature: Any, kind: str | None) -> Any:
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return escaped(pc.take(pa.array(feature["names"], pa.string()), values))
    if pa.types.is_nested(values.type):
        told = [
            None if value is None else json.dumps(plain(value, feature), ensure_ascii=False)
            for value in values.to_pylist()
        ]
        return escaped(pa.array(told, pa.string()))
    return escaped(values) if pa.types.is_string(values.type) else values


def jsonl_of(version: DatasetVersion, split: str) -> Generator[bytes, None, None]:
    """A split as JSON Lines in UTF-8, each row with every column; raises NotHere at its first piece."""
    nested = {column["name"] for column in version.columns if column["kind"] == "json"}
    for table, features in _tables(version, split):
        columns = []
        for name in table.column_names:
            values = table.column(name).to_pylist()
            if name in nested:
                values = [None if value is None else json.loads(value) for value in values]
            elif isinstance(features[name], dict) and features[name].get("_type") == "Value":
                pass
            else:
                values = [plain(value, features[name]) for value in values]
            columns.append(values)
        names = table.column_names
        lines = [
            json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
            for row in zip(*columns, strict=True)
        ]
        yield ("\n".join(lines) + "\n").encode()


def plain(value: Any, feature: Any) -> Any:
    """A stored value as a person writes it: classes by their names, however deep."""
    if value is None:
        return None
    if isinstance(feature, list):
        return [plain(item, feature[0]) for item in value]
    kind = feature.get("_type")
    if kind == "ClassLabel":
        return feature["names"][value] if 0 <= value < len(feature["names"]) else value
    if kind in {"List", "LargeList", "Sequence"} and isinstance(value, list):
        return [plain(item, feature["feature"]) for item in value]
    if kind is None and isinstance(value, dict):
        return {name: plain(value.get(name), member) for name, member in feature.items()}
    return value


# -- a folder that `datasets` reads -----------------------------------------------------------------------
def _huggingface(version: DatasetVersion, shards: list[Shard], name: str) -> HttpResponseBase:
    with rows_of(version, shards[0].split) as rows:
        metadata = rows.files[0].schema_arrow.metadata or {}
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    splits = list(dict.fromkeys(shard.split for shard in shards))
    card = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits],
            }
        ],
        "dataset_info": {"features": [{"name": n, **_as_yaml(each)} for n, each in features.items()]},
    }
    title = " ".join(version.dataset.name.split())
    rows_said = ", ".join(f"{version.splits[split]:,} {split}" for split in splits)
    readme = (
        f"---\n{yaml.safe_dump(card, sort_keys=False, allow_unicode=True)}---\n\n# {title}\n\n"
        f"Rows: {rows_said}. Content hash: `{version.content_hash}`.\n\n"
        '    datasets.load_dataset("path/of/this/folder")\n'
    )
    files = [(f"{name}/data/{shard.name}", shard) for shard in shards]
    return _zip_of_stored(files, f"{name}-datasets", {f"{name}/README.md": readme})


def _as_yaml(feature: Any) -> dict[str, Any]:
    """A feature in the form of dataset cards, which is not that of Parquet's metadata (datasets' `_to_yaml_list`)."""
    if isinstance(feature, list):
        return _yaml_list("list", feature[0])
    kind = feature.get("_type")
    rest = {key: value for key, value in feature.items() if key not in {"_type", "feature"}}
    if kind in {"List", "LargeList"}:
        return _yaml_list("list" if kind == "List" else "large_list", feature["feature"]) | rest
    if kind == "Value":
        return rest
    if kind == "ClassLabel":
        names = {str(number): name for number, name in enumerate(feature["names"])}
        return {"dtype": {"class_label": {"names": names}}}
    if kind:
        return {"dtype": {kind.lower(): rest} if rest else kind.lower()}
    return {"struct": [{"name": name, **_as_yaml(each)} for name, each in feature.items()]}


def _yaml_list(kind: str, item: Any) -> dict[str, Any]:
    inner = _as_yaml(item)
    return {kind: next(iter(inner.values())) if list(inner) in (["dtype"], ["struct"]) else inner}
