"""A Tuneboard of one machine, backed up while it runs and restored into an empty home of another."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webapp.test_up import Copy, free_port, processes_of

pytestmark = pytest.mark.slow

SEED = """
import hashlib, os, pathlib
from runs.models import Artifact, Run
from webapp import storage
from webapp.accounts.models import User, Workspace
from webapp.catalog.models import BaseModel
admin = User.objects.get(username="admin")
admin.set_password("correct horse battery")
admin.save()
run = Run.objects.create(
    workspace=Workspace.objects.get(), created_by=admin, name="To be kept", base_model=BaseModel.objects.first(),
    dataset_name="r", dataset_hash="a" * 64, task="text-classification", method="full", columns={}, settings={},
    status="succeeded", attempt=1)
source = pathlib.Path(os.environ["TUNEBOARD_HOME"]) / "weights"
source.write_bytes(os.urandom(3_000_000))
key = f"runs/{run.pk}/artifacts/attempt-1/model.safetensors"
Artifact.objects.create(
    run=run, name="model.safetensors", storage_key=key, size=3_000_000, sha256=storage.sha256_of(source))
storage.put(source, key, move=True)
print(run.pk)
"""


@pytest.fixture
def homes() -> Iterator[Path]:
    # Not pytest's own folder: it is closed to the user that Postgres runs as.
    with tempfile.TemporaryDirectory(prefix="tuneboard-backup-", ignore_cleanup_errors=True) as place:
        yield Path(place)
        for pid in processes_of(Path(place)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def weights(copy: Copy, run: str, token: str) -> bytes:
    address = f"http://127.0.0.1:{copy.port}/api/v1/runs/{run}/artifacts/model.safetensors"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        data: bytes = answer.read()
        assert answer.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    return data


def test_the_same_weights_are_downloaded_from_an_empty_home_after_a_restore(homes: Path) -> None:
    first = Copy(homes / "first", free_port())
    first.wait_for_link()
    seeded = first.manage("shell", "-v", "0", "-c", SEED)
    run = seeded.stdout.strip()
    assert run.isdecimal(), seeded.stderr
    token = first.manage("token", "admin").stdout.strip()
    before = weights(first, run, token)

    done = first.manage("backup", str(homes / "backup"))
    assert done.returncode == 0, done.stderr
    refused = first.manage("restore", str(homes / "backup"), "--force")
    assert refused.returncode == 1 and "already runs on" in refused.stderr
    first.interrupt()
    again = first.manage("backup", str(homes / "backup"))  # while it does not run, too
    assert again.returncode == 0 and "0 of 1 files were new" in again.stdout, again.stderr
    assert processes_of(homes / "first") == set()

    second = Copy.__new__(Copy)
    second.home, second.port, second.more = homes / "second", free_port(), {}
    done = second.manage("restore", str(homes / "backup"))
    assert done.returncode == 0, done.stderr
    assert processes_of(homes / "second") == set(), "the database is stopped again"
    assert (homes / "second" / "secret_key").read_text() == (homes / "first" / "secret_key").read_text()
    second = Copy(homes / "second", second.port)
    second.wait_for_link()
    assert "Made the first user" not in second.said
    assert weights(second, run, token) == before
    asked = "from webapp.accounts.models import User; print(User.objects.get().check_password('correct horse battery'))"
    assert second.manage("shell", "-v", "0", "-c", asked).stdout.strip() == "True"
    second.interrupt()
