"""What the README promises of real models on real data, through the HTTP API of a whole Tuneboard."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.browser.conftest import Site

pytestmark = pytest.mark.slow


class Client:
    """A script with a token."""

    def __init__(self, site: Site) -> None:
        self.base = f"{site.address}/api/v1"
        self.token = site.manage("token", "admin").strip()

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        request = urllib.request.Request(f"{self.base}{path}", data=body, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def upload(self, files: list[Path], name: str) -> int:
        boundary = uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'.encode(),
            *(
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'.encode()
                + path.read_bytes()
                + b"\r\n"
                for path in files
            ),
            f"--{boundary}--\r\n".encode(),
        ]
        made = self.call("POST", "/datasets", b"".join(parts), f"multipart/form-data; boundary={boundary}")
        return self.ready(made["id"])

    def ready(self, dataset: int) -> int:
        while (found := self.call("GET", f"/datasets/{dataset}"))["status"] == "inspecting":
            time.sleep(0.5)
        assert found["status"] == "ready", found["problems"]
        return dataset

    def run(self, **choices: Any) -> dict[str, Any]:
        run = self.call("POST", "/runs", json.dumps(choices).encode())
        while run["status"] in {"queued", "running"}:
            time.sleep(1)
            run = self.call("GET", f"/runs/{run['id']}")
        assert run["status"] == "succeeded", run["failure"]
        found: dict[str, Any] = run
        return found


@pytest.fixture(scope="module")
def client(site: Site) -> Client:
    return Client(site)


@pytest.fixture(scope="module")
def reviews(client: Client, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    folder = tmp_path_factory.mktemp("reviews")
    rows = (shared_data / "sst2" / "train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "train.tsv").write_text("".join(rows[:1000]), encoding="utf-8")
    (folder / "dev.tsv").write_bytes((shared_data / "sst2" / "dev.tsv").read_bytes())
    return client.upload([folder / "train.tsv", folder / "dev.tsv"], "Reviews by API")


def test_the_whole_model_learns_film_reviews(client: Client, reviews: int) -> None:
    run = client.run(model="all-minilm-l6-v2", dataset=reviews, method="full")
    assert run["metrics"]["validation_accuracy"] >= 0.80
    assert run["metrics"]["validation_accuracy"] > run["baseline"]["metrics"]["validation_accuracy"] + 0.2


def test_lora_learns_film_reviews(client: Client, reviews: int) -> None:
    run = client.run(model="all-minilm-l6-v2", dataset=reviews, method="lora")
    assert run["metrics"]["validation_accuracy"] >= 0.75
    names = {artifact["name"] for artifact in run["artifacts"]}
    assert {"model.safetensors", "adapter/adapter_model.safetensors"} <= names


def test_a_head_reads_handwritten_digits(client: Client) -> None:
    made = client.call("POST", "/datasets/samples/handwritten-digits", b"")
    run = client.run(model="efficientnet-lite0", dataset=client.ready(made["id"]), method="head")
    assert run["metrics"]["accuracy"] >= 0.93
