"""Runs that ended some days ago, with real files in storage."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Artifact, Attempt, Checkpoint, Metric, Run, StorageRemoval
from tests.runs.conftest import Lab
from webapp import storage
from webapp.accounts.models import Membership, User


@pytest.fixture(autouse=True)
def own_storage(settings: Any, tmp_path: Path) -> Path:
    """An empty storage for each test; returns its folder."""
    from webapp.settings import storage_backend

    kept = tmp_path / "storage"
    kept.mkdir()
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(str(kept))}
    return kept


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], str]:
    """Puts bytes into storage under a key; returns the key."""

    def put(key: str, data: bytes = b"bytes") -> str:
        source = tmp_path / "to-put"
        source.write_bytes(data)
        storage.put(source, key, move=True)
        return key

    return put


@pytest.fixture
def owner(lab: Lab) -> Client:
    """The browser of somebody who owns the workspace."""
    Membership.objects.filter(user=lab.member).update(role=Membership.Role.OWNER)
    client = Client()
    client.force_login(lab.member)
    return client


@pytest.fixture
def admin(lab: Lab) -> Client:
    person = User.objects.create_user("root", is_superuser=True)
    Membership.objects.create(user=person, workspace=lab.workspace, role=Membership.Role.OWNER)
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def ended(lab: Lab, write: Callable[[str, bytes], str]) -> Callable[..., Run]:
    """A run that ended so many days ago, with a model of two files, two checkpoints, a log and points."""

    def make(days: float = 40, status: str = "succeeded", points: int = 3, **values: Any) -> Run:
        at = timezone.now() - timedelta(days=days)
        run = lab.run(status=status, finished_at=at, started_at=at, attempt=1, **values)
        Attempt.objects.create(
            run=run, number=1, lease_until=at, finished_at=at, outcome=status, log_tail="step 2"
        )
        for name, data in (("model.safetensors", b"w" * 1000), ("config.json", b"{}")):
            key = write(f"runs/{run.pk}/artifacts/attempt-1/{name}", data)
            digest = hashlib.sha256(data).hexdigest()
            Artifact.objects.create(run=run, name=name, storage_key=key, size=len(data), sha256=digest)
        for step, best in ((10, True), (20, False)):
            prefix = f"runs/{run.pk}/checkpoints/{step}-1"
            write(f"{prefix}/model.bin", b"c" * 500)
            write(f"{prefix}/manifest.json", b"{}")
            Checkpoint.objects.create(run=run, step=step, storage_prefix=prefix, size_bytes=500, is_best=best)
        write(f"runs/{run.pk}/logs/attempt-1.log", b"step 1\nstep 2\n")
        Metric.objects.bulk_create(
            Metric(run=run, series="loss", step=n, value=1 / n) for n in range(1, points + 1)
        )
        return run

    return make


def keys(prefix: str = "") -> list[str]:
    return [file.key for file in storage.listing(prefix)]


def remove_now() -> None:
    """As the dispatcher does within seconds; the second pass too, which it does an hour later."""
    from runs.housekeeping.removal import remove_due

    while StorageRemoval.objects.exists():
        StorageRemoval.objects.update(due_at=timezone.now())
        assert remove_due()


@pytest.fixture
def no_storage(own_storage: Path) -> None:
    shutil.rmtree(own_storage)
