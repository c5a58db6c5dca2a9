"""DuckDB for files that strangers wrote: no extension, no network, no file but those it is given."""

from __future__ import annotations

from pathlib import Path

import duckdb

MEMORY = "768MB"
THREADS = 2


def connect(scratch: Path, *paths: Path, memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    """A database in memory that may read `paths` and keep what does not fit into memory below `scratch`."""
    spill = scratch / "spill"
    spill.mkdir(exist_ok=True)
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory,
            "threads": THREADS,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    allowed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection
