"""A dataset on its way from uploaded to ready."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from runs.housekeeping.removal import remove_due
from tests.webapp.datasets.conftest import Inspected, stored_files
from webapp import storage
from webapp.accounts.models import User, Workspace
from webapp.datasets import inspection, samples
from webapp.datasets.deleting import delete_dataset
from webapp.datasets.inspection import requeue_due, run_inspection
from webapp.datasets.isolated import Crashed
from webapp.datasets.models import Dataset

REVIEWS = b"text,label\n" + b"".join(
    f"review number {n} of the {'good' if n % 3 else 'bad'} kind,{'good' if n % 3 else 'bad'}\n".encode()
    for n in range(60)
)


def version_folder(dataset: Dataset) -> Path:
    assert dataset.version is not None
    folder = storage.local_path(dataset.version.storage_prefix)
    assert folder is not None
    return folder


def test_a_csv_becomes_ready_with_what_a_person_wants_to_know(inspected: Inspected) -> None:
    dataset = inspected(("reviews.csv", REVIEWS))
    assert dataset.status == "ready", dataset.findings
    version = dataset.version
    assert version is not None
    assert version.rows == 60
    assert version.splits == {"train": 48, "validation": 6, "test": 6}
    assert [(c["name"], c["kind"]) for c in version.columns] == [("text", "text"), ("label", "label")]
    assert version.columns[1]["counts"]["train"] == {"bad": 16, "good": 32}
    assert version.preview[0] == {"text": "review number 0 of the bad kind", "label": "bad"}
    assert (dataset.stage, dataset.claimed_by, dataset.lease_until) == ("", "", None)


def test_the_datasets_library_reads_it_with_classes_by_name(inspected: Inspected) -> None:
    datasets = pytest.importorskip("datasets")
    folder = version_folder(inspected(("reviews.csv", REVIEWS)))
    files = {split: str(folder / f"{split}-*.parquet") for split in ("train", "validation", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(folder / "cache"))
    assert loaded["train"].features["label"].names == ["bad", "good"]
    assert loaded["train"].features["label"].int2str(loaded["train"][0]["label"]) == "bad"
    assert loaded["test"].num_rows == 6


def test_sst2_without_a_header_has_the_splits_of_its_file_names(
    inspected: Inspected, shared_data: Path
) -> None:
    dataset = inspected(*(shared_data / "sst2" / f"{name}.tsv" for name in ("train", "dev", "test")))
    assert dataset.version is not None, dataset.findings
    assert dataset.version.splits == {"train": 6920, "validation": 872, "test": 1821}
    assert [column["name"] for column in dataset.version.columns] == ["column_1", "column_2"]
    if dataset.version.suggested:  # tasks may not be registered where the training side is absent
        assert dataset.version.suggested["columns"] == {"text": "column_1", "label": "column_2"}


def test_the_same_content_has_the_same_hash_whatever_it_came_in(inspected: Inspected) -> None:
    def lines(separator: str, end: str, prefix: bytes = b"") -> bytes:
        rows = (line.split(",") for line in REVIEWS.decode().splitlines())
        return prefix + (end.join(separator.join(row) for row in rows) + end).encode()

    first = inspected(("a.csv", REVIEWS)).version
    second = inspected(("b.tsv", lines("\t", "\r\n", b"\xef\xbb\xbf"))).version
    third = inspected(("c.csv", REVIEWS), seed=7).version
    assert first is not None and second is not None and third is not None
    assert first.content_hash == second.content_hash
    assert first.content_hash != third.content_hash


def test_a_claimed_inspection_is_left_alone(workspace: Workspace) -> None:
    later = timezone.now() + timedelta(minutes=1)
    dataset = Dataset.objects.create(workspace=workspace, name="x", claimed_by="other", lease_until=later)
    run_inspection(dataset.pk, "test")
    dataset.refresh_from_db()
    assert (dataset.claimed_by, dataset.attempts) == ("other", 0)


def test_a_second_message_changes_nothing(inspected: Inspected) -> None:
    dataset = inspected(("reviews.csv", REVIEWS))
    run_inspection(dataset.pk, "test")
    again = Dataset.objects.get(pk=dataset.pk)
    assert (again.row_version, again.attempts) == (dataset.row_version, 1)


def test_an_inspection_whose_worker_died_is_sent_again_and_ends_well(
    inspected: Inspected, workspace: Workspace, user: User, no_messages: list[int]
) -> None:
    dataset = samples.use_sample("which-language", workspace, user)
    past = timezone.now() - timedelta(seconds=1)
    Dataset.objects.filter(pk=dataset.pk).update(claimed_by="dead", lease_until=past, attempts=1)
    assert requeue_due() == [dataset.pk]
    assert no_messages == [dataset.pk]
    assert requeue_due() == []  # not again at once
    run_inspection(dataset.pk, "test")
    dataset.refresh_from_db()
    assert (dataset.status, dataset.attempts) == ("ready", 2)


def test_a_file_that_kills_its_reader_is_given_up_with_a_sentence(
    inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Crashed("signal 11")

    monkeypatch.setattr(inspection, "convert_apart", die)
    dataset = inspected(("reviews.csv", REVIEWS))
    for _ in range(2):
        run_inspection(dataset.pk, "test")
    assert requeue_due() == []
    dataset.refresh_from_db()
    assert dataset.status == "invalid"
    assert "3 times" in dataset.findings[0]["message"]
    assert stored_files() == []


def test_losing_the_lease_in_the_middle_leaves_the_other_worker_its_work(
    inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = inspection.convert_apart

    def stolen(*arguments: object) -> object:
        Dataset.objects.update(claimed_by="the other worker")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(inspection, "convert_apart", stolen)
    dataset = inspected(("reviews.csv", REVIEWS))
    assert (dataset.status, dataset.claimed_by) == ("inspecting", "the other worker")


@pytest.mark.django_db(transaction=True)
def test_deleting_leaves_nothing_behind(inspected: Inspected) -> None:
    dataset = inspected(("reviews.csv", REVIEWS))
    assert stored_files()
    delete_dataset(dataset, None)
    assert not Dataset.objects.exists()
    remove_due()
    assert stored_files() == []


@pytest.mark.django_db(transaction=True)
def test_deleting_during_the_inspection_leaves_nothing_behind(
    inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = inspection.storage.put

    def put_after_deletion(*arguments: object, **options: object) -> None:
        real(*arguments, **options)  # type: ignore[arg-type]
        for dataset in Dataset.objects.exclude(stage="waiting"):
            delete_dataset(dataset, None)

    monkeypatch.setattr(inspection.storage, "put", put_after_deletion)
    with pytest.raises(Dataset.DoesNotExist):
        inspected(("reviews.csv", REVIEWS))
    assert stored_files() == []


@pytest.mark.parametrize(
    ("slug", "rows", "classes"), [("which-language", 7000, 12), ("handwritten-digits", 1797, 10)]
)
def test_samples_are_found_and_become_ready(
    slug: str, rows: int, classes: int, workspace: Workspace, user: User
) -> None:
    dataset = samples.use_sample(slug, workspace, user)
    run_inspection(dataset.pk, "test")
    dataset.refresh_from_db()
    assert dataset.version is not None, dataset.findings
    assert dataset.version.rows >= rows
    assert len(dataset.version.columns[1]["names"]) == classes
    assert samples.use_sample(slug, workspace, user).pk == dataset.pk


def test_classes_beside_a_text_are_to_be_told_apart_whatever_they_are_called(inspected: Inspected) -> None:
    rows = "\n".join(f"text number {n} of them,{('cat', 'dog')[n % 2]},person-{n % 9}" for n in range(60))
    dataset = inspected(("animals.csv", f"text,animal,who\n{rows}".encode()))
    assert dataset.version is not None
    assert dataset.version.suggested["task"] == "text-classification"
    assert dataset.version.suggested["columns"] == {"text": "text", "label": "animal"}
