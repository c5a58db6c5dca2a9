"""Tables alone: read as if they had been uploaded as several files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from webapp.datasets.archives import Tree
from webapp.datasets.formats import all_formats, recognise
from webapp.datasets.layouts.common import MEDIA, Layout, Part, Place, is_companion, split_of_path
from webapp.datasets.problems import Refused

MOST_TABLES = 1000


class Tables(Layout):
    slug = "tables"
    title = "Tables (CSV, JSON Lines, Parquet, …)"

    def recognises(self, tree: Tree) -> float:
        if any(path.lower().endswith(MEDIA) for path in tree.files):
            return 0.0
        return 0.4 if tables_of(tree) else 0.0

    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        tables = tables_of(tree)
        if len(tables) > MOST_TABLES:
            raise Refused(
                "too_many_files",
                f"The archive holds {len(tables):,} tables; at most {MOST_TABLES:,} make one dataset.",
                "Join them into fewer files.",
                file=tree.name,
            )
        unused = [path for path in tree.files if path not in tables and not is_companion(path)]
        if unused:
            place.problems.warn(
                "unused_files",
                f"{len(unused):,} file{'s are' if len(unused) > 1 else ' is'} no table, such as “{unused[0]}”.",
                file=tree.name,
                count=len(unused),
            )
        for path in tables:
            source = place.source(tree, path)
            yield Part(
                path, split_of_path(path), recognise(source, place.problems).open(source, place.problems)
            )


def tables_of(tree: Tree) -> list[str]:
    """Files whose extension is a table's."""
    known = {extension for each in all_formats() for extension in each.extensions}
    return [
        path for path in tree.files if PurePosixPath(path).suffix.lower() in known and not is_companion(path)
    ]


LAYOUT = Tables()
