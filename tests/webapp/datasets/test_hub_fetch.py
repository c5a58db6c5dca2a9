"""Fetching a dataset's files: taken up again where a connection breaks, checked, and given up with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from webapp.datasets import hub_fetch
from webapp.datasets.inspection import LeaseLost, run_inspection
from webapp.datasets.models import Dataset
from webapp.datasets.problems import Refused

from .conftest import Fetched, stored_files
from .fake_hub import URL, FakeDatasets
from .test_hub import THREE, csv, parquet

pytestmark = pytest.mark.django_db


def problem(dataset: Dataset) -> dict[str, Any]:
    """What an invalid dataset was refused for; nothing of it is left in storage."""
    assert dataset.status == "invalid", dataset.problems
    assert stored_files() == []
    said: dict[str, Any] = dataset.problems[0]
    return said


def test_a_connection_that_breaks_again_and_again_is_taken_up_where_it_stopped(
    hub: FakeDatasets,
    fetched: Fetched,
) -> None:
    hub.offer("lab/reviews", {"train.csv": csv(3000)})
    hub.breaks_after = 9_000
    dataset = fetched()
    assert dataset.version is not None and dataset.version.rows == 3000
    starts = [headers.get("Range") for headers in hub.headers]
    assert len(starts) > 7 and starts[0] is None and len(set(starts)) == len(starts)


def test_a_hub_that_goes_away_ends_it_with_a_sentence(hub: FakeDatasets, fetched: Fetched) -> None:
    hub.offer("lab/reviews", THREE)
    hub.breaks_after = 0
    said = problem(fetched())
    assert said["code"] == "hub_unreachable" and "did not give “data/" in said["message"]
    assert sum("/resolve/" in asked for asked in hub.asked) == hub_fetch.TRIES


def test_other_bytes_than_the_hub_announced_are_refused(hub: FakeDatasets, fetched: Fetched) -> None:
    hub.offer("lab/reviews", {"train.parquet": parquet(20)})
    hub.told = {"lfs": {"size": 1, "sha256": "0" * 64, "pointerSize": 1}}
    said = problem(fetched())
    assert (said["code"], said["file"]) == ("hub_changed", "train.parquet")


def test_more_bytes_than_the_hub_announced_are_refused(hub: FakeDatasets, fetched: Fetched) -> None:
    hub.offer("lab/reviews", THREE)
    hub.told = {"size": 10}
    assert "more than the 10 bytes" in problem(fetched())["message"]


def test_a_file_that_went_meanwhile_is_told(hub: FakeDatasets, script: Client) -> None:
    hub.offer("lab/reviews", THREE)
    made = script.post(URL, {"dataset": "lab/reviews"}, "application/json").json()["id"]
    hub.repositories["lab/reviews"].files.pop("data/test.csv")
    run_inspection(made, "test")
    said = problem(Dataset.objects.get(pk=made))
    assert said["code"] == "hub_changed" and "data/test.csv" in said["message"]


def test_terms_that_were_set_meanwhile_are_told(hub: FakeDatasets, script: Client) -> None:
    there = hub.offer("lab/reviews", THREE)
    made = script.post(URL, {"dataset": "lab/reviews"}, "application/json").json()["id"]
    there.gated = True
    run_inspection(made, "test")
    assert problem(Dataset.objects.get(pk=made))["code"] == "hub_refused"


def test_the_token_goes_to_the_hub_and_not_to_who_keeps_its_files(
    hub: FakeDatasets,
    fetched: Fetched,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    keeper = FakeDatasets()
    keeper.repositories = hub.repositories
    hub.offer("lab/reviews", {"train.csv": csv(30)})
    hub.moved_to = keeper.url.replace("127.0.0.1", "localhost")
    try:
        assert fetched().status == "ready"
    finally:
        keeper.close()
    assert hub.headers[-1]["authorization"] == "Bearer hf_secret"
    assert keeper.headers and all("authorization" not in headers for headers in keeper.headers)


def test_a_disk_without_room_is_told_before_a_byte_comes(
    hub: FakeDatasets,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = {"dataset": "lab/x", "files_commit": "a" * 40, "files": [["train.csv", 1 << 60, "train", ""]]}
    with pytest.raises(Refused) as caught:
        hub_fetch.fetch(source, tmp_path / "hub", lambda *_: None)
    assert caught.value.problem.code == "disk_full" and hub.asked == []


def test_progress_is_told_and_a_lost_lease_stops_it(hub: FakeDatasets, tmp_path: Path) -> None:
    there = hub.offer("lab/reviews", {"a.csv": csv(3000), "b.csv": csv(10)})
    files = [[name, len(data), "train", ""] for name, data in there.files.items()]
    source = {"dataset": "lab/reviews", "files_commit": there.commit, "files": files}
    told: list[tuple[str, int, int]] = []
    found = hub_fetch.fetch(source, tmp_path / "hub", lambda *said: told.append(said))
    total = sum(map(len, there.files.values()))
    assert told[-1] == ("downloading", total, total) and all(stage == "downloading" for stage, _, _ in told)
    assert [Path(path).read_bytes() for path, _ in found] == list(there.files.values())
    assert [name for _, name in found] == ["train-a.csv", "train-b.csv"]

    def lost(*_: object) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        hub_fetch.fetch(source, tmp_path / "again", lost)
