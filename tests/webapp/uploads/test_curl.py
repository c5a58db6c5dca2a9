"""What docs/api.md says to type for a large file does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.webapp.uploads.conftest import CSV
from tests.webapp.uploads.served import ROOT, Served
from webapp.datasets.models import Dataset

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_example_with_curl_uploads_a_file_and_makes_a_dataset_of_it(
    served: Served, tmp_path: Path
) -> None:
    page = (ROOT / "docs/api.md").read_text()
    start = page.index("    FILE=reviews.csv")
    typed = re.sub(r"^Repeat .*$", "", page[start : page.index("Launch. What is left out")], flags=re.M)
    (tmp_path / "reviews.csv").write_bytes(CSV)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed],
        cwd=tmp_path,
        env={
            **os.environ,
            "TUNEBOARD": f"http://localhost:{served.port}/api/v1",
            "TOKEN": served.token,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    dataset = Dataset.objects.get()
    assert dataset.name == "Reviews" and dataset.files.get().name == "reviews.csv"
    assert (tmp_path / "storage" / dataset.files.get().storage_key).read_bytes() == CSV
