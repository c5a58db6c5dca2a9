"""Versions by edits: each knows its parent and what was done; the parent stays as it is."""

from __future__ import annotations

import csv
import io
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.webapp.datasets.conftest import Inspected, stored_files
from webapp import storage
from webapp.accounts.models import User
from webapp.datasets import changing
from webapp.datasets.changing import Busy, request_change, run_change
from webapp.datasets.edits import Wrong
from webapp.datasets.isolated import Crashed
from webapp.datasets.models import Change, Dataset, DatasetVersion, UploadedFile
from webapp.datasets.versions import find_version, make_current

pytestmark = pytest.mark.django_db(transaction=True)
ANIMALS = ("cat", "dog", "fox")


def table(rows: list[tuple[Any, ...]], *names: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(names)
    writer.writerows(rows)
    return out.getvalue().encode()


def animals(count: int = 60) -> bytes:
    return table([(f"this is example {n} of a text", ANIMALS[n % 3]) for n in range(count)], "text", "label")


def changed(dataset: Dataset, user: User | None = None, files: Any = (), **asked: Any) -> DatasetVersion:
    """The version that a change of the current one makes, as a worker makes it."""
    dataset.refresh_from_db()
    assert dataset.version is not None
    change = request_change(dataset.version, asked, user, files)
    run_change(change.pk, "test")
    change.refresh_from_db()
    dataset.refresh_from_db()
    assert change.status == Change.Status.DONE, change.problems
    assert change.result is not None and dataset.version == change.result
    return change.result


def refused(dataset: Dataset, files: Any = (), **asked: Any) -> str:
    """The code of the problem that a change ends with."""
    before = stored_files()
    assert dataset.version is not None
    change = request_change(dataset.version, asked, None, files)
    run_change(change.pk, "test")
    change.refresh_from_db()
    assert change.status == Change.Status.REFUSED
    assert stored_files() == before
    code: str = change.problems[0]["code"]
    return code


def rows_of(version: DatasetVersion) -> dict[str, list[dict[str, Any]]]:
    """{split: rows}, with classes by name."""
    names = {column["name"]: column.get("names") for column in version.columns if column["kind"] == "label"}
    found: dict[str, list[dict[str, Any]]] = {}
    for key in storage.keys_under(version.storage_prefix):
        path = storage.local_path(key)
        assert path is not None
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            for column, classes in names.items():
                row[column] = None if row[column] is None else classes[row[column]]
        found[path.name.split("-")[0]] = rows
    return found


def test_dropped_rows_go_and_the_parent_stays_as_it_was(inspected: Inspected, user: User) -> None:
    dataset = inspected(("animals.csv", animals()))
    first = dataset.version
    assert first is not None
    before = rows_of(first)
    second = changed(dataset, user, op="drop_rows", split="train", rows=[1, 3])
    assert (second.number, second.parent, second.created_by) == (2, first, user)
    assert second.change["says"] == "Dropped 2 rows of train."
    after = rows_of(second)
    assert after["train"] == [before["train"][1], *before["train"][3:]]
    assert (after["validation"], after["test"]) == (before["validation"], before["test"])
    assert second.splits == {split: len(rows) for split, rows in after.items()}
    first.refresh_from_db()
    assert rows_of(first) == before and first.content_hash != second.content_hash


def test_rows_without_a_value_go(inspected: Inspected) -> None:
    rows = [(f"example {n} of a text", "" if n % 10 == 0 else ANIMALS[n % 3]) for n in range(60)]
    dataset = inspected(("animals.csv", table(rows, "text", "label")))
    version = changed(dataset, op="drop_found", code="missing_values", column="label")
    assert version.rows == 54 and "missing_values" not in {each["code"] for each in version.problems}
    assert version.change["says"] == "Dropped 6 rows without “label”."


def test_classes_are_joined_under_a_name(inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert dataset.version is not None
    before = rows_of(dataset.version)
    version = changed(dataset, op="merge_labels", column="label", labels=["dog", "fox"], into="canine")
    (label,) = [column for column in version.columns if column["kind"] == "label"]
    assert label["names"] == ["cat", "canine"]
    expected = {"cat": "cat", "dog": "canine", "fox": "canine"}
    for split, rows in rows_of(version).items():
        assert [row["label"] for row in rows] == [expected[row["label"]] for row in before[split]]
    assert version.change["says"] == "Joined “dog” and “fox” with “canine” in “label”."


def test_classes_go_with_their_rows(inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    version = changed(dataset, op="drop_labels", column="label", labels=["fox"])
    (label,) = [column for column in version.columns if column["kind"] == "label"]
    assert label["names"] == ["cat", "dog"] and version.rows == 40
    assert {row["label"] for rows in rows_of(version).values() for row in rows} == {"cat", "dog"}


def test_a_class_that_outnumbers_the_others_is_capped_by_a_seed(inspected: Inspected) -> None:
    rows = [(f"example {n} of a text", "yes" if n % 6 else "no") for n in range(120)]
    dataset = inspected(("answers.csv", table(rows, "text", "label")))
    assert dataset.version is not None
    before = rows_of(dataset.version)
    version = changed(dataset, op="cap_class", column="label", most=20)
    after = rows_of(version)
    counts = [sum(row["label"] == name for row in after["train"]) for name in ("no", "yes")]
    assert counts == [sum(row["label"] == "no" for row in before["train"]), 20]
    assert (after["validation"], after["test"]) == (before["validation"], before["test"])
    order = [before["train"].index(row) for row in after["train"]]
    assert order == sorted(order)  # drawn, not shuffled
    make_current(dataset, version.parent)
    assert changed(dataset, op="cap_class", column="label", most=20) == version  # the seed draws the same
    make_current(dataset, version.parent)
    assert changed(dataset, op="cap_class", column="label", most=20, seed=7) != version


def test_another_mapping_shares_the_rows_and_is_another_version(inspected: Inspected) -> None:
    rows = [(f"text {n} that is read", f"answer {n} that is written", ANIMALS[n % 3]) for n in range(60)]
    dataset = inspected(("rows.csv", table(rows, "text", "answer", "label")))
    first = dataset.version
    assert first is not None and first.suggested["task"] == "text-classification"
    files = stored_files()
    asked = {"task": "text-classification", "columns": {"text": "answer", "label": "label"}}
    second = changed(dataset, op="map", **asked)
    assert second.suggested["columns"] == asked["columns"]
    assert (second.content_hash, second.number) == (first.content_hash, 2)
    assert stored_files() == files
    third = changed(dataset, op="drop_rows", split="train", rows=[1])
    assert third.suggested["columns"] == asked["columns"]  # a mapping that was chosen stays


def test_texts_become_classes_where_they_are_to_be_told_apart(inspected: Inspected) -> None:
    rows = [(f"text {n} that is read", f"topic number {n % 30}") for n in range(90)]
    dataset = inspected(("rows.csv", table(rows, "text", "topic")))
    assert dataset.version is not None
    assert [column["kind"] for column in dataset.version.columns] == ["text", "text"]
    asked = {"task": "text-classification", "columns": {"text": "text", "label": "topic"}}
    version = changed(dataset, op="map", **asked)
    topic = version.columns[1]
    assert (topic["kind"], len(topic["names"])) == ("label", 30) and version.suggested["columns"] == asked[
        "columns"
    ]
    again = changed(dataset, op="drop_rows", split="train", rows=[1])
    assert again.columns[1]["names"] == topic["names"]


def test_files_are_added(inspected: Inspected, user: User) -> None:
    dataset = inspected(("animals.csv", animals()))
    more = SimpleUploadedFile(
        "more.csv", table([("an owl at night", "owl"), ("a cat", "cat")], "text", "label")
    )
    version = changed(dataset, user, [more], op="add_files")
    assert version.rows == 62 and dataset.files.count() == 2
    (label,) = [column for column in version.columns if column["kind"] == "label"]
    assert label["names"] == ["cat", "dog", "fox", "owl"]
    added = [row for row in rows_of(version)["train"] if row["text"] in ("an owl at night", "a cat")]
    assert [row["label"] for row in added] == ["owl", "cat"]
    held = SimpleUploadedFile("test.csv", table([("a fox in the snow", "fox")], "text", "label"))
    again = changed(dataset, user, [held], op="add_files")
    assert again.splits == version.splits | {"test": version.splits["test"] + 1}


def test_files_that_cannot_be_added_leave_nothing_behind(inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert refused(dataset, [SimpleUploadedFile("more.csv", b"\x00\x01\x02" * 50)], op="add_files")
    assert UploadedFile.objects.filter(dataset=dataset).count() == 1


def test_what_changes_nothing_or_leaves_nothing_is_refused(inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert refused(dataset, op="drop_found", code="missing_values", column="label") == "no_change"
    rows = [(f"example {n}", "only") for n in range(30)]
    other = inspected(("only.csv", table([(None, text) for text, _ in rows], "gone", "text")))
    assert other.version is not None and [column["name"] for column in other.version.columns] == ["text"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "op"),
        ({"op": "drop_tables"}, "op"),
        ("drop_rows", "op"),
        ({"op": "drop_rows", "split": "train"}, "rows"),
        ({"op": "drop_rows", "split": "train", "rows": [0]}, "rows"),
        ({"op": "drop_rows", "split": "train", "rows": ["1; DROP"]}, "rows"),
        ({"op": "drop_rows", "split": "else", "rows": [1]}, "split"),
        ({"op": "drop_rows", "split": "train", "rows": [1], "more": 1}, "more"),
        ({"op": "drop_found", "code": "missing_values", "column": 'x" OR 1'}, "column"),
        ({"op": "drop_found", "code": "unbalanced"}, "code"),
        ({"op": "drop_found", "code": "leakage", "split": "train"}, "split"),
        ({"op": "drop_found", "code": "short_texts", "column": "label"}, "column"),
        ({"op": "mask_personal", "column": "label"}, "column"),
        ({"op": "merge_labels", "column": "text", "labels": ["cat"], "into": "x"}, "column"),
        ({"op": "merge_labels", "column": "label", "labels": ["owl"], "into": "x"}, "labels"),
        ({"op": "merge_labels", "column": "label", "labels": ["cat"], "into": "x" * 101}, "into"),
        ({"op": "drop_labels", "column": "label", "labels": list(ANIMALS)}, "labels"),
        ({"op": "cap_class", "column": "label", "most": 0}, "most"),
        ({"op": "cap_class", "column": "label", "most": 10, "seed": "x"}, "seed"),
        ({"op": "map", "task": "text-classification", "columns": {"text": "nothing"}}, "text"),
        ({"op": "add_files"}, "names"),
        ({"op": []}, "op"),
        ({"op": {}}, "op"),
        ({"op": None}, "op"),
        ({"op": "drop_rows", "self": 1}, "self"),
        ({"op": "drop_rows", "split": [], "rows": [1]}, "split"),
        ({"op": "drop_rows", "split": "train", "rows": "1"}, "rows"),
        ({"op": "drop_rows", "split": "train", "rows": [True]}, "rows"),
        ({"op": "drop_found", "code": []}, "code"),
        ({"op": "merge_labels", "column": {}, "labels": ["cat"], "into": "x"}, "column"),
        ({"op": "merge_labels", "column": "label", "labels": [["cat"]], "into": "x"}, "labels"),
        ({"op": "merge_labels", "column": "label", "labels": ["cat"], "into": ["x"]}, "into"),
        ({"op": "cap_class", "column": "label", "most": True}, "most"),
        ({"op": "cap_class", "column": "label", "most": 1.5}, "most"),
        ({"op": "cap_class", "column": "label", "most": 10, "seed": -1}, "seed"),
        ({"op": "cap_class", "column": "label", "most": 10**30}, "most"),
        ({"op": "split", "how": {}}, "how"),
        ({"op": "split", "how": "kfold", "seed": -1}, "seed"),
        ({"op": "split", "how": "stratified", "test": 10**400}, "test"),
        ({"op": "split", "how": "kfold", "test": float("nan")}, "test"),
        ({"op": "split", "how": "kfold", "values": {"\0": "train"}}, "values"),
        ({"op": "split", "how": "column", "column": "label", "values": {"cat": []}}, "values"),
        ({"op": "map", "task": ["text-classification"]}, "task"),
        ({"op": "map", "task": "no \0 task"}, "task"),
        ({"op": "map", "task": "half a pair \ud800"}, "task"),
        ({"op": "map", "task": "text-classification", "columns": {"self": "nothing"}}, "self"),
        ({"op": "map", "task": "text-classification", "columns": {"text": []}}, "text"),
        ({"op": "add_files", "names": "one.csv"}, "names"),
    ],
)
def test_a_change_that_cannot_be_is_refused_at_once(inspected: Inspected, asked: Any, field: str) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert dataset.version is not None
    with pytest.raises(Wrong) as caught:
        request_change(dataset.version, asked, None)
    assert field in caught.value.fields
    assert not Change.objects.exists()


def test_one_change_at_a_time_and_meanwhile_the_dataset_stays(inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    first = dataset.version
    assert first is not None
    request_change(first, {"op": "drop_rows", "split": "train", "rows": [1]}, None)
    with pytest.raises(Busy):
        request_change(first, {"op": "drop_rows", "split": "train", "rows": [2]}, None)
    assert not make_current(dataset, first)
    dataset.refresh_from_db()
    assert (dataset.status, dataset.version) == (Dataset.Status.READY, first)


def test_a_change_whose_worker_died_is_made_again_and_given_up_in_the_end(
    inspected: Inspected, no_messages: list[int], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert dataset.version is not None
    change = request_change(dataset.version, {"op": "drop_rows", "split": "train", "rows": [1]}, None)

    def die(*_: Any) -> Any:
        raise Crashed("killed")

    with monkeypatch.context() as patched:
        patched.setattr(changing, "convert_apart", die)
        for _ in range(settings.MAX_ATTEMPTS):
            run_change(change.pk, "test")
    run_change(change.pk, "test")  # no more of it
    assert changing.requeue_due() == []
    change.refresh_from_db()
    assert (change.status, change.problems[0]["code"]) == (Change.Status.REFUSED, "inspection_died")


def test_delivered_twice_it_is_made_once(inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert dataset.version is not None
    change = request_change(dataset.version, {"op": "drop_rows", "split": "train", "rows": [1]}, None)
    run_change(change.pk, "one")
    run_change(change.pk, "two")
    assert dataset.versions.count() == 2


def test_a_dataset_that_is_deleted_meanwhile_leaves_nothing(
    inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert dataset.version is not None
    change = request_change(dataset.version, {"op": "drop_rows", "split": "train", "rows": [1]}, None)
    real = changing.store

    def store_after_deletion(*arguments: Any) -> None:
        Dataset.objects.filter(pk=dataset.pk).delete()
        storage.delete_under(f"datasets/{dataset.pk}")
        real(*arguments)

    monkeypatch.setattr(changing, "store", store_after_deletion)
    run_change(change.pk, "test")
    assert not [key for key in stored_files() if key.startswith(f"datasets/{dataset.pk}/")]


def test_a_version_is_found_by_number_and_by_hash_and_can_be_taken_back(inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    first = dataset.version
    assert first is not None
    second = changed(dataset, op="drop_labels", column="label", labels=["fox"])
    assert find_version(dataset, "1") == first and find_version(dataset, first.content_hash) == first
    assert find_version(dataset, "") == second and find_version(dataset, "9") is None
    assert make_current(dataset, first)
    dataset.refresh_from_db()
    assert dataset.version == first
