"""What an attempt needs is brought to its host: from a folder as it lies, from a bucket by way of the cache."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage, default_storage, storages

from runs import lifecycle
from runs.execution import cached, inputs
from runs.execution.cache import Cache
from runs.models import Artifact, Attempt, Run
from runs.training.events import TrainingFailure
from runs.training.spec import RunSpec
from tests.runs.execution.stored import store_rows
from tests.runs.execution.supervised import Supervised, stored_weights, until, weights_of
from webapp import storage
from webapp.catalog.models import BaseModel
from webapp.datasets.models import DatasetVersion


class Bucket(InMemoryStorage):
    """Storage that is no folder, and that replaces what is there, as S3 is set up to."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        if self.exists(name):
            self.delete(name)
        return name


@pytest.fixture
def bucket(settings: Any) -> Iterator[None]:
    settings.STORAGES = settings.STORAGES | {"default": {"BACKEND": f"{Bucket.__module__}.Bucket"}}
    kept = default_storage._wrapped  # type: ignore[attr-defined]
    default_storage._wrapped = Bucket()  # type: ignore[attr-defined]
    yield
    default_storage._wrapped = kept  # type: ignore[attr-defined]
    storages._storages.clear()  # type: ignore[attr-defined]


def fill(version: DatasetVersion) -> None:
    """Put the rows of a version into the bucket, and their hash on its row."""
    version.content_hash = store_rows(version.storage_prefix)
    version.save()


def test_a_folder_is_used_as_it_lies(
    submit: Callable[..., Run], claim: Callable[[], Attempt], tmp_path: Path, world: dict[str, Any]
) -> None:
    submit()
    spec = inputs.fetch(inputs.needs_of(claim(), {"torch": "2"}), tmp_path).spec
    assert spec.dataset.folder == str(storage.local_path(world["dataset_version"].storage_prefix))
    assert (spec.model.reference, spec.resume_from) == ("/nowhere", None)
    spec.write(tmp_path)
    assert RunSpec.read(tmp_path) == spec


def test_from_a_bucket_a_dataset_is_fetched_once_and_whole(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    tmp_path: Path,
    world: dict[str, Any],
    bucket: None,
) -> None:
    fill(world["dataset_version"])
    submit()
    needs = inputs.needs_of(claim(), {})
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(Path(inputs.fetch(needs, tmp_path).spec.dataset.folder)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1
    names = ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    assert sorted(path.name for path in found[0].iterdir()) == names
    assert [path.name for path in found[0].parent.iterdir()] == [found[0].name]  # nothing half-done


def test_a_run_whose_files_are_all_in_a_bucket_resumes_and_succeeds(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    supervise: Callable[[Attempt], Supervised],
    world: dict[str, Any],
    bucket: None,
) -> None:
    fill(world["dataset_version"])
    submit(steps=20, checkpoint_every=4, delay=0.01, die={"1": {"step": 10, "how": "SIGKILL"}})
    assert supervise(claim()).wait().status == "queued"
    run = supervise(claim()).wait()
    assert (run.status, stored_weights(run)) == ("succeeded", weights_of(7, 20))
    assert run.attempts.get(number=2).resumed_from_step == 8


@pytest.mark.parametrize("in_bucket", [False, True])
def test_a_dataset_that_is_missing_from_storage_is_told(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    tmp_path: Path,
    world: dict[str, Any],
    request: pytest.FixtureRequest,
    in_bucket: bool,
) -> None:
    if in_bucket:
        request.getfixturevalue("bucket")
    DatasetVersion.objects.update(storage_prefix="datasets/0/versions/gone")
    submit()
    with pytest.raises(TrainingFailure, match="missing from storage"):
        inputs.fetch(inputs.needs_of(claim(), {}), tmp_path)


def test_a_dataset_that_is_damaged_in_the_bucket_is_told_and_not_trained_on(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    supervise: Callable[[Attempt], Supervised],
    world: dict[str, Any],
    bucket: None,
    settings: Any,
) -> None:
    version = world["dataset_version"]
    fill(version)
    key = f"{version.storage_prefix}/train-00000-of-00001.parquet"
    with default_storage.open(key, "rb") as stored:
        data = stored.read()
    default_storage.save(key, ContentFile(data[: len(data) // 2]))
    submit()
    run = supervise(claim()).wait()
    assert (run.status, run.failure["code"]) == ("failed", "bad_data")
    assert "is damaged" in run.failure["message"] and "Upload it again" in run.failure["hint"]
    # Whole files, but of other rows.
    store_rows(version.storage_prefix, rows=21)
    submit()
    run = supervise(claim()).wait()
    assert "its rows are not those that were stored" in run.failure["message"]
    assert list((settings.CACHE_DIR / "datasets").glob("*")) == []


@pytest.mark.parametrize("known", [False, True], ids=["by place and size", "by the digests of a run's files"])
def test_a_base_model_in_a_bucket_is_fetched_once_and_checked(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    world: dict[str, Any],
    bucket: None,
    tmp_path: Path,
    known: bool,
) -> None:
    fill(world["dataset_version"])
    prefix = "runs/0/artifacts/attempt-1"
    for name, data in (("config.json", b"{}"), ("sub/model.safetensors", b"weights")):
        default_storage.save(f"{prefix}/{name}", ContentFile(data))
    BaseModel.objects.update(source="run", reference=prefix)
    run = submit()
    if known:
        for name, data in (("config.json", b"{}"), ("sub/model.safetensors", b"weights")):
            Artifact.objects.create(
                run=run,
                name=name,
                storage_key=f"{prefix}/{name}",
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
            )
    needs = inputs.needs_of(claim(), {})
    assert bool(needs.model_files) is known
    folder = Path(inputs.fetch(needs, tmp_path / "one").spec.model.reference)
    assert (folder / "sub" / "model.safetensors").read_bytes() == b"weights"
    # Edited on the disk of this host: it is fetched again.
    cached.release(tmp_path / "one")
    (folder / "sub" / "model.safetensors").write_bytes(b"weighty")
    again = Path(inputs.fetch(needs, tmp_path / "two").spec.model.reference)
    assert again == folder and (folder / "sub" / "model.safetensors").read_bytes() == b"weights"
    cached.release(tmp_path / "two")
    if known:  # other bytes of the same length in the bucket are noticed
        (folder / "config.json").unlink()
        default_storage.save(f"{prefix}/config.json", ContentFile(b"[]"))
        with pytest.raises(TrainingFailure, match=r"config\.json is not what was stored"):
            inputs.fetch(needs, tmp_path / "three")
        cached.release(tmp_path / "three")


def test_what_a_run_uses_stays_in_the_cache_until_the_run_ends(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    supervise: Callable[[Attempt], Supervised],
    world: dict[str, Any],
    bucket: None,
    settings: Any,
) -> None:
    settings.CACHE_MAX_BYTES = 1
    fill(world["dataset_version"])
    entry = settings.CACHE_DIR / "datasets" / world["dataset_version"].content_hash
    run = submit(steps=10_000, delay=0.02)
    running = supervise(claim())
    until(lambda: Run.objects.get(pk=run.pk).step > 0)
    Cache().trim()
    assert sorted(path.name for path in entry.iterdir())[0] == "test-00000-of-00001.parquet"
    lifecycle.request_cancel(run.pk, None)
    assert running.wait().status == "cancelled"
    assert not entry.exists()
