"""The database as files, a table a file: out by COPY in one snapshot, and back in."""

# Names of tables and columns come from the catalogue of Postgres and are quoted.
# ruff: noqa: S608
from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from runs.backup.place import BackupError, Manifest
from webapp import storage

MIGRATIONS = "django_migrations"
TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY c.relname
"""
COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position
"""


@contextmanager
def snapshot() -> Iterator[None]:
    """All that is read within is of one moment, however long it takes and whatever is written meanwhile."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def dump(folder: Path) -> dict[str, Any]:
    """Write every table into `folder` (within `snapshot`); returns these parts of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for table in _rows(TABLES):
        columns = _rows(COLUMNS, [table])
        path = folder / f"{table}.copy.gz"
        rows = _copy_out(table, columns, path)
        tables[table] = {
            "file": f"{folder.name}/{path.name}",
            "columns": columns,
            "rows": rows,
            "size": path.stat().st_size,
            "sha256": storage.sha256_of(path),
        }
    with connection.cursor() as cursor:
        cursor.execute("SELECT app, name FROM django_migrations ORDER BY id")
        migrations = [[app, name] for app, name in cursor.fetchall()]
        # Not of the snapshot: never behind the rows, and so no id is given out twice.
        cursor.execute(
            "SELECT sequencename, last_value FROM pg_sequences "
            "WHERE schemaname = current_schema() AND last_value IS NOT NULL"
        )
        sequences = {name: int(value) for name, value in cursor.fetchall()}
        cursor.execute("SHOW server_version")
        postgres = str(cursor.fetchone()[0])
    return {"tables": tables, "migrations": migrations, "sequences": sequences, "postgres": postgres}


def _rows(query: str, parameters: list[Any] | None = None) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return [str(row[0]) for row in cursor.fetchall()]


def _quoted(columns: list[str]) -> str:
    return ", ".join(connection.ops.quote_name(column) for column in columns)


def _copy_out(table: str, columns: list[str], path: Path) -> int:
    query = f"COPY (SELECT {_quoted(columns)} FROM {connection.ops.quote_name(table)}) TO STDOUT"
    with gzip.open(path, "wb", compresslevel=3) as target, connection.cursor() as cursor:
        with cursor.copy(query) as copy:
            for data in copy:
                target.write(bytes(data))
        return int(cursor.rowcount)


# -- back ------------------------------------------------------------------------------------------
def what_is_there() -> str:
    """What a restore would overwrite, in words; empty if there is nothing."""
    tables = set(_rows(TABLES))
    counts = []
    for table, one, many in (
        ("accounts_user", "person", "people"),
        ("runs_run", "run", "runs"),
        ("datasets_dataset", "dataset", "datasets"),
    ):
        if table in tables:
            count = int(_rows(f"SELECT count(*) FROM {connection.ops.quote_name(table)}")[0])
            if count:
                counts.append(f"{count:,} {one if count == 1 else many}")
    return ", ".join(counts)


def check_version(manifest: Manifest) -> None:
    """Raises BackupError for a backup of a newer Tuneboard, which this one cannot read."""
    known = set(MigrationExecutor(connection).loader.disk_migrations)
    unknown = [f"{app}.{name}" for app, name in manifest.migrations if (app, name) not in known]
    if unknown:
        raise BackupError(
            f"This backup was made by a newer Tuneboard ({manifest.version}; it has the migration {unknown[0]}, "
            f"which is not known here). Restore it with that version."
        )


def load(manifest: Manifest, folder: Path) -> None:
    """Make the database what it was: everything that is in it goes. `folder` is the backup's."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '20s'")
        for table in _rows(TABLES):
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)} CASCADE")
        cursor.execute("SET lock_timeout = 0")
    executor = MigrationExecutor(connection)
    executor.migrate(_targets(executor, {(app, name) for app, name in manifest.migrations}))
    wanted = [table for table in manifest.tables if table != MIGRATIONS]
    absent = set(wanted) - set(_rows(TABLES))
    if absent:
        raise BackupError(f"This Tuneboard has no table {sorted(absent)[0]}; it cannot take the backup.")
    with transaction.atomic():  # foreign keys are looked at when it is committed
        with connection.cursor() as cursor:
            filled = [table for table in _rows(TABLES) if table != MIGRATIONS]
            cursor.execute(f"TRUNCATE {', '.join(connection.ops.quote_name(table) for table in filled)}")
        for table in wanted:
            _copy_in(table, manifest.tables[table], folder)
        with connection.cursor() as cursor:
            for name, value in manifest.sequences.items():
                cursor.execute("SELECT setval(to_regclass(%s), %s)", [connection.ops.quote_name(name), value])
    call_command("migrate", verbosity=0, interactive=False)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _targets(executor: MigrationExecutor, applied: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The last migrations of each app among those that were applied."""
    nodes = executor.loader.graph.node_map
    return [
        key
        for key in sorted(applied & set(nodes))
        if not any(child.key in applied and child.key[0] == key[0] for child in nodes[key].children)
    ]


def _copy_in(table: str, entry: dict[str, Any], folder: Path) -> None:
    query = f"COPY {connection.ops.quote_name(table)} ({_quoted(entry['columns'])}) FROM STDIN"
    with gzip.open(folder / str(entry["file"]), "rb") as source, connection.cursor() as cursor:
        with cursor.copy(query) as copy:
            while data := source.read(1 << 20):
                copy.write(data)
        if cursor.rowcount != entry["rows"]:
            raise BackupError(f"The table {table} has {cursor.rowcount} rows and not {entry['rows']}.")
