"""A language model of a few thousand weights with a tokenizer and a chat template, and rows for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runs.training.spec import DatasetRef, ModelRef

from .conftest import dataset_ref, write_split

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "sun": "yellow"}


def tokenizer(template: str | None = CHATML) -> Any:
    """Byte-level, as those of real models; it knows two line breaks as one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    text = ["What colour is the " + " ".join(COLOURS), "It is " + " ".join(COLOURS.values()), "a\n\n\nb"] * 20
    made.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    found = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|im_end|>")
    found.chat_template = template
    return found


def language_model(folder: Path, template: str | None = CHATML) -> ModelRef:
    """A tiny Llama in a folder, whose pad token is its end-of-turn token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(template)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=256,
            eos_token_id=words.eos_token_id,
            bos_token_id=None,
            pad_token_id=words.pad_token_id,
        )
    ).save_pretrained(folder)
    return ModelRef("tiny talker", "text-decoder", "folder", str(folder), licence="Apache-2.0")


def questions(folder: Path, kind: str = "prompt", repeats: int = 4) -> DatasetRef:
    """Question and answer as `prompt`, `messages` (structs), `json` (messages as text) or `text`."""
    pairs = [(f"What colour is the {thing}?", f"It is {colour}.") for thing, colour in COLOURS.items()]
    columns: dict[str, list[Any]]
    turns = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in pairs
    ]
    match kind:
        case "prompt":
            columns = {"prompt": [asked for asked, _ in pairs], "completion": [said for _, said in pairs]}
        case "messages":
            columns = {"messages": turns}
        case "json":
            columns = {"messages": [json.dumps(item) for item in turns]}
        case "text":
            columns = {"text": [f"{asked} {said}" for asked, said in pairs]}
        case _:
            raise ValueError(kind)
    train = {name: values * repeats for name, values in columns.items()}
    sizes = {
        "train": write_split(folder, "train", train, None),
        "validation": write_split(folder, "validation", columns, None),
        "test": write_split(folder, "test", columns, None),
    }
    return dataset_ref(folder, sizes)


def roles(kind: str) -> dict[str, str]:
    """Column mapping of `questions(kind)`."""
    match kind:
        case "prompt":
            return {"prompt": "prompt", "completion": "completion"}
        case "text":
            return {"text": "text"}
        case _:
            return {"messages": "messages"}
