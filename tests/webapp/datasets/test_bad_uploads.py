"""Bad inputs all the way: upload, worker, page, browser and API. And how many there are that tests know."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from tests.webapp.datasets import test_archives, test_bad_files
from tests.webapp.datasets.bad_inputs import Case
from tests.webapp.datasets.conftest import Inspected, stored_files
from tests.webapp.datasets.test_api import headers_of
from tests.webapp.datasets.test_bad_archives import ANNOTATIONS, ARCHIVES, PICTURES, RECORDINGS
from tests.webapp.datasets.test_bad_tables import CASES, HUGE
from webapp.accounts.models import User, Workspace
from webapp.datasets.models import Dataset

NEW: list[Case] = [*CASES, *HUGE, *PICTURES, *RECORDINGS, *ARCHIVES, *ANNOTATIONS]
BY_NAME = {case.what: case for case in NEW}
WHOLE_WAY = (
    "a line of 100 MB in CSV",
    "100 MB in quotes over lines",
    "JSON 10,000 objects deep",
    "HTML in every name and value",
    "right-to-left marks in a name and a value",
    "the name of a column of DuckDB's",
    "a pickle",
    "Parquet with noise in its footer",
    "50,000 × 50,000 pixels",
    "a program in the comment of a JPEG",
    "SVG with a script",
    "a head that says twice as much",
    "archives in archives in archives",
    "a directory that stands nowhere",
    "YAML that means billions",
)


def test_150_bad_inputs_are_known_and_no_two_are_the_same() -> None:
    older = [*test_bad_files.REFUSED, *test_bad_files.USED, *test_archives.REFUSED]
    made = [(each.name, each.data, str(getattr(each, "request", {}))) for each in older]
    made += [(case.name, case.make(), "{}") for case in NEW if case not in HUGE]
    different = {
        (name.rpartition(".")[2], hashlib.sha256(data).digest(), asked) for name, data, asked in made
    }
    assert len(different) == len(made)
    assert len(made) + len(HUGE) >= 150
    assert len(BY_NAME) == len(NEW)


@pytest.mark.parametrize("what", WHOLE_WAY)
def test_a_bad_input_breaks_no_page_and_leaves_nothing_behind(
    what: str, inspected: Inspected, client: Client, user: User, workspace: Workspace
) -> None:
    case = BY_NAME[what]
    dataset = inspected((case.name, case.make()))
    client.force_login(user)
    refused = bool(case.code)
    assert dataset.status == (Dataset.Status.INVALID if refused else Dataset.Status.READY), dataset.problems
    assert dataset.attempts == 1
    pages = [f"/datasets/{dataset.pk}/", "/datasets/"]
    pages += (
        [] if refused else [f"/datasets/{dataset.pk}/rows/", f"/datasets/{dataset.pk}/?split=train&row=1"]
    )
    for address in pages:
        answer: Any = client.get(address)
        text = answer.content.decode()
        assert answer.status_code == 200, address
        for raw in ("<script>alert", "<img src=x", "<b>x", "te\u202ext"):
            assert raw not in text, (address, raw)
    said = client.get(f"/api/v1/datasets/{dataset.pk}", headers=headers_of(user, workspace))
    assert said.status_code == 200
    codes = [problem["code"] for problem in said.json()["problems"]]
    if refused:
        assert codes == [case.code]
        assert stored_files() == []
    assert not settings.WORK_DIR.exists() or not list(settings.WORK_DIR.iterdir())
