"""How long a page of the data browser takes at a million rows, up to the finished HTML.

    python benchmarks/browser_pages.py [ROWS]

Budget: the first page in at most 100 ms. A word that hardly any row has makes all of them be looked through; the limit of that
is the five seconds of a search. The database is left out: a page asks it for one row by its id.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

BUDGET_MS = 100.0
RARE, RARE_MS = "a word that is in one row", 5000.0
TIMES = 9


def main() -> None:
    rows = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {
            "TUNEBOARD_HOME": name,
            "STORAGE_URL": f"{name}/storage",
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
        }
        import django

        django.setup()
        measure(Path(name), rows)


def version_of(folder: Path, rows: int) -> Any:
    """A version of reviews, as its row in the database would be."""
    from inspect_csv import write_csv

    from webapp.datasets.conversion import Order, convert_files
    from webapp.datasets.models import Dataset, DatasetVersion

    output, scratch = folder / "storage/v", folder / "scratch"
    output.mkdir(parents=True)
    scratch.mkdir()
    write_csv(folder / "rows.csv", rows)
    order = Order([(str(folder / "rows.csv"), "rows.csv")])
    made = convert_files(order, output, scratch, lambda *_: None)
    dataset = Dataset(pk=1, name="Reviews")
    version = DatasetVersion(
        dataset=dataset,
        content_hash=made.content_hash,
        storage_prefix="v",
        rows=made.rows,
        splits=made.splits,
        columns=made.columns,
    )
    dataset.version = version
    return version


def measure(folder: Path, rows: int) -> None:
    from django.template.loader import render_to_string

    from webapp.datasets import browsing

    version = version_of(folder, rows)
    last = version.splits["train"]
    views: dict[str, dict[str, Any]] = {
        "first page": {},
        "page in the middle": {"start": last // 2},
        "last page": {"end": last},
        "first page of a class": {"value": "4:1"},
        "first page of a word": {"q": "honest"},
        "a word in the middle": {"q": "honest", "start": last // 2},
        RARE: {"q": f", {rows // 2}"},
    }

    def page(query: dict[str, Any]) -> str:
        form = browsing.RowFilter(version, {"split": "train", **query})
        asked = form.asked()
        found = browsing.page_of(version, asked)
        assert not found.trouble, found.trouble
        context = {
            "dataset": version.dataset,
            "version": version,
            "filter": form,
            "asked": asked,
            "columns": version.columns,
            "version_query": "",
            "is_current": True,
            "exports": [],
            "page": found,
            "count": browsing.known_count(version, asked, found),
            "counted": None,
            "request": SimpleNamespace(GET=_query(query), get_full_path=lambda: "/"),
        }
        return str(render_to_string("datasets/browse.html#count", context)) + str(
            render_to_string("datasets/browse.html#rows", context)
        )

    print(f"{rows:,} rows; median of {TIMES}")
    print(f"{'view':<28} {'ms':>8} {'limit':>8} {'of limit':>10}")
    for name, query in views.items():
        took = []
        for _ in range(TIMES):
            started = time.perf_counter()
            page(query)
            took.append((time.perf_counter() - started) * 1000)
        middle = statistics.median(took)
        limit = RARE_MS if name == RARE else BUDGET_MS
        print(f"{name:<28} {middle:>8.1f} {limit:>8.0f} {middle / limit:>10.2f}")


def _query(query: dict[str, Any]) -> Any:
    from django.http import QueryDict

    found = QueryDict(mutable=True)
    found.update({name: str(value) for name, value in query.items()})
    return found


if __name__ == "__main__":
    main()
