"""The apostrophes that CSV files have before what a spreadsheet would run as a formula: put there, and taken off again.

Every text that begins with =, +, -, @, a tab or a carriage return gets one in front; so does one that begins with apostrophes
before such a character, so that what is read again is what was written. In a column that was written so, no text begins with
such a character bare: only there one apostrophe comes off each text that has it. A column with a bare one is somebody
else's, and stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from webapp.datasets.problems import Problems

RUN = r"[=+\-@\t\r]"
TO_ESCAPE, ESCAPED, BARE = f"^'*{RUN}", f"^'+{RUN}", f"^{RUN}"


def escaped(texts: Any) -> Any:
    """An Arrow array of texts with an apostrophe before each that a spreadsheet would run."""
    return pc.if_else(
        pc.match_substring_regex(texts, TO_ESCAPE), pc.binary_join_element_wise("'", texts, ""), texts
    )


def unescaped(texts: Any) -> Any:
    """The texts without the apostrophe that `escaped` put there."""
    return pc.if_else(pc.match_substring_regex(texts, ESCAPED), pc.utf8_slice_codeunits(texts, 1), texts)


def unescaped_names(names: list[str]) -> list[str]:
    """The same of the names of the columns of a file."""
    texts = pa.array(names, pa.string())
    if pc.any(pc.match_substring_regex(texts, BARE)).as_py():
        return names
    found: list[str] = unescaped(texts).to_pylist()
    return found


class Apostrophes:
    """Looks at the texts of a file as they pass by, and takes off what is to come off once they are all there."""

    def __init__(self, name: str, problems: Problems) -> None:
        self.name, self.problems = name, problems
        self._seen: set[str] = set()  # columns with an apostrophe at the beginning of a text

    def watch(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches as they are."""
        for batch in batches:
            for name in set(batch.schema.names) - self._seen:
                texts = batch.column(name)
                if pa.types.is_string(texts.type) and pc.any(pc.starts_with(texts, "'")).as_py():
                    self._seen.add(name)
            yield batch

    def take_off(self, path: Path) -> None:
        """Write the Parquet file of those batches anew, if there is something to take off."""
        if not self._seen:
            return
        with pq.ParquetFile(path) as file:
            counts = self._counts(file)
            if not counts:
                return
            made = path.with_suffix(".unescaped")
            with pq.ParquetWriter(made, file.schema_arrow, compression="lz4", use_dictionary=True) as writer:
                for number in range(file.metadata.num_row_groups):
                    for batch in file.read_row_group(number, use_threads=False).to_batches():
                        writer.write_batch(_changed(batch, counts), row_group_size=batch.num_rows)
        made.replace(path)
        for name, count in counts.items():
            self.problems.warn(
                "apostrophes",
                f"{count:,} text{'s' if count > 1 else ''} in “{name}” had an apostrophe before =, +, - or @, as it is "
                "written against formulas; it was taken off.",
                file=self.name,
                column=name,
                count=count,
            )

    def _counts(self, file: pq.ParquetFile) -> dict[str, int]:
        """Texts that lose an apostrophe, by column; not of columns in which one begins bare."""
        counts = dict.fromkeys(sorted(self._seen), 0)
        for number in range(file.metadata.num_row_groups):
            table = file.read_row_group(number, columns=list(counts), use_threads=False)
            for name in list(counts):
                texts = table.column(name)
                if pc.any(pc.match_substring_regex(texts, BARE)).as_py():
                    del counts[name]
                else:
                    counts[name] += pc.sum(pc.match_substring_regex(texts, ESCAPED)).as_py() or 0
        return {name: count for name, count in counts.items() if count}


def _changed(batch: pa.RecordBatch, names: dict[str, int]) -> pa.RecordBatch:
    arrays = [
        unescaped(batch.column(name)) if name in names else batch.column(name) for name in batch.schema.names
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
