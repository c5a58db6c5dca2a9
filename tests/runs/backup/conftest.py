"""A Tuneboard with something in it, and empty databases to restore into."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection

from runs.models import Artifact, Checkpoint, Metric, Run
from webapp import storage
from webapp.accounts.models import ApiToken, Membership, User, Workspace
from webapp.datasets.models import UploadedFile

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = os.urandom(200_000)


@pytest.fixture(autouse=True)
def own_storage(settings: Any, tmp_path: Path) -> Path:
    from webapp.settings import storage_backend

    kept = tmp_path / "storage"
    kept.mkdir()
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(str(kept))}
    return kept


@pytest.fixture
def world(transactional_db: None, make_world: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return make_world()


def put(tmp_path: Path, key: str, data: bytes) -> str:
    source = tmp_path / "to-put"
    source.write_bytes(data)
    storage.put(source, key, move=True)
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], str]:
    """Puts bytes into storage; returns their SHA-256."""
    return lambda key, data: put(tmp_path, key, data)


@pytest.fixture
def lab(world: dict[str, Any], write: Callable[[str, bytes], str]) -> Run:
    """A finished run with weights, a checkpoint, a log, points, and a dataset's files. Text that COPY has to escape."""
    user: User = world["created_by"]
    user.password = PBKDF2PasswordHasher().encode("correct horse", "salt")  # the one of real installations
    user.save()
    Membership.objects.create(user=user, workspace=world["workspace"], role="owner")
    version = world["dataset_version"]
    write(f"{version.storage_prefix}/train-00000-of-00001.parquet", b"rows")
    digest = write(f"datasets/{version.dataset_id}/uploads/0.csv", b"text,label\n")
    UploadedFile.objects.create(
        dataset=version.dataset, name="r.csv", storage_key=f"datasets/{version.dataset_id}/uploads/0.csv",
        size=11, sha256=digest,
    )  # fmt: skip
    run = Run.objects.create(
        **world, name="Tab\tnewline\nback\\slash \\N “quotes” 数据", status="succeeded", attempt=1
    )
    key = f"runs/{run.pk}/artifacts/attempt-1/model.safetensors"
    Artifact.objects.create(
        run=run, name="model.safetensors", storage_key=key, size=len(WEIGHTS), sha256=write(key, WEIGHTS)
    )
    prefix = f"runs/{run.pk}/checkpoints/5-1"
    write(f"{prefix}/model.bin", b"state")
    write(f"{prefix}/manifest.json", b'{"files": {"model.bin": {"size": 5}}}')
    Checkpoint.objects.create(run=run, step=5, storage_prefix=prefix, size_bytes=5)
    write(f"runs/{run.pk}/logs/attempt-1.log", b"step 1\n")
    Metric.objects.bulk_create(Metric(run=run, series="loss", step=n, value=1 / 3 * n) for n in range(1, 200))
    return run


def token_of(user: User, workspace: Workspace) -> str:
    return ApiToken.issue(user, workspace, "script")[1]


@dataclass
class Elsewhere:
    """An empty database and an empty storage, with a home of their own."""

    home: Path
    url: str

    @property
    def storage(self) -> Path:
        return self.home / "storage"

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in {"STORAGE_URL", "SECRET_KEY"}}
        given = {"TUNEBOARD_HOME": str(self.home), "DATABASE_URL": self.url, **more}
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**kept, **given},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def query(self, sql: str) -> list[Any]:
        with psycopg.connect(self.url) as opened:
            return opened.execute(sql).fetchall()


@pytest.fixture
def elsewhere(transactional_db: None, tmp_path: Path) -> Iterator[Elsewhere]:
    name = f"restored_{uuid.uuid4().hex[:8]}"
    server = os.environ["DATABASE_URL"].rsplit("/", 1)[0]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    yield Elsewhere(tmp_path / "home", f"{server}/{name}")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
