"""Arrow IPC: files (Feather) and streams, as pandas, polars or `save_to_disk` of the `datasets` library write them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from webapp.datasets.formats.common import Format, Opened, Source, batch_rows, check_column_count
from webapp.datasets.formats.parquet import Known, known_columns
from webapp.datasets.problems import Problems, Refused

FILE, STREAM = b"ARROW1\0\0", b"\xff\xff\xff\xff"
LARGEST_SCHEMA = 16 << 20  # bytes


class Arrow(Format):
    slug = "arrow"
    title = "Arrow or Feather"
    extensions = (".arrow", ".feather", ".ipc")

    def recognises(self, head: bytes, extension: str) -> float:
        stream = head.startswith(STREAM) and 0 < int.from_bytes(head[4:8], "little") < LARGEST_SCHEMA
        return 1.0 if head.startswith(FILE) or stream else 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        batches = _stored(source)
        try:
            first = next(batches)
        except StopIteration:
            raise Refused(
                "no_rows", "The file has columns but no rows.", "Add examples.", file=source.name
            ) from None
        check_column_count(first.num_columns, source)
        known = known_columns(first.schema, source, problems)
        return Opened(
            known.schema,
            _converted(first, batches, source, known),
            class_names=known.class_names,
            details={"format": self.slug},
        )


def _stored(source: Source) -> Iterator[pa.RecordBatch]:
    """The batches that have rows, checked: what a stranger wrote may point outside of its own buffers."""
    size = source.path.stat().st_size
    try:
        with pa.OSFile(str(source.path)) as opened:
            is_file = opened.read(len(FILE)) == FILE
            opened.seek(0)
            reader = pa.ipc.open_file(opened) if is_file else pa.ipc.open_stream(opened)
            batches = (
                (reader.get_batch(number) for number in range(reader.num_record_batches))
                if is_file
                else iter(reader)
            )
            for batch in batches:
                batch.validate(full=True)
                source.progress(min(opened.tell(), size), size)
                if batch.num_rows:
                    yield batch
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(source) from error


def _converted(
    first: pa.RecordBatch, others: Iterator[pa.RecordBatch], source: Source, known: Known
) -> Iterator[pa.RecordBatch]:
    """In batches of the usual size: some programs write a whole table as one."""
    batch: pa.RecordBatch | None = first
    done = 0
    while batch is not None:
        step = batch_rows(batch.nbytes / batch.num_rows)
        for start in range(0, batch.num_rows, step):
            try:
                yield known.converted(batch.slice(start, step), source, done + start + 1)
            except MemoryError:
                raise
            except (pa.ArrowException, ValueError) as error:
                raise _damaged(source) from error
        done += batch.num_rows
        batch = next(others, None)


def _damaged(source: Source) -> Refused:
    return Refused(
        "damaged",
        "The file begins as Arrow but cannot be read: it is cut off or damaged.",
        "Write or copy it again; the upload may have been of a file that was still being written.",
        file=source.name,
    )


FORMAT = Arrow()
