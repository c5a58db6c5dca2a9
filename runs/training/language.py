"""Supervised fine-tuning of causal language models with TRL, from rows to the packaged model."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer

from runs.training import distributed, methods, predictions
from runs.training.base_models import local_folder
from runs.training.context import Context
from runs.training.conversations import IGNORED, Conversations, Sample
from runs.training.data import load_splits
from runs.training.devices import autocast, device
from runs.training.events import TrainingFailure
from runs.training.exports import Packaged, package
from runs.training.fitting import Resumable, arguments, fit
from runs.training.packing import Collator, keeps_rows_apart, packed
from runs.training.pieces import BASE, FINISHED, Piece, Pieces, Stage, at_once
from runs.training.tasks.common import Task

SAMPLES = 4
LARGEST_LOSS = 50.0  # beyond it exp() says nothing
LOGITS_AT_ONCE = 1 << 27  # half a gigabyte in float32; a vocabulary has up to 256 thousand words
PROMPT_TOKENS = 2048  # of a sample; what stands before is left out


def train_language_model(task: Task, context: Context) -> None:
    """Do a run from beginning to end: score the base model, train, score again, package."""
    chosen = context.settings
    rows = load_splits(context)
    context.phase("preparing", "Loading the model")
    folder = local_folder(context.spec.model, context.cache_dir)
    set_seed(int(chosen["seed"]))  # after it: unpacking a model, which happens once, may draw numbers
    tokenizer, model = load(context, folder)
    conversations = Conversations(context, tokenizer, longest(context, model))
    examples = {split: conversations.examples(split, found) for split, found in rows.items()}
    for split, found in examples.items():
        context.message(f"{len(found):,} {split} rows, {sum(map(len, found['input_ids'])):,} tokens.")
    samples = _samples(conversations, rows["validation"], int(chosen["seed"]))
    scorer = Scorer(context, Collator(tokenizer.pad_token_id, conversations.max_length))
    answering = Answering(context, tokenizer, samples)
    pieces = Pieces(context)
    context.phase("evaluating", "Scoring the base model")
    with Stage(pieces, BASE) as piece:
        baseline = scorer.of_splits(model, examples, piece=piece)
        answering.report(model, 0, piece)
    context.baseline("base_model", task.baseline_title, baseline)
    model = methods.prepare(model, context, task_type="CAUSAL_LM")
    model = _fit(model, task, pieces, tokenizer, examples, scorer, answering)
    context.phase("evaluating", "Scoring the finished model")
    losses: dict[str, NDArray[np.float32]] = {}
    with Stage(pieces, FINISHED) as piece:
        metrics = scorer.of_splits(model, examples, losses, piece)
    split = "test" if "test" in losses else "validation"
    read = rows[split].select(conversations.kept[split])
    kept = predictions.write(context, split, read, predictions.of_losses(read, losses[split]))
    context.phase("packaging", "Writing the model folder")
    usage = task.usage_for(context.spec.columns)
    package(
        context,
        model,
        Packaged(task, tokenizer, None, metrics, baseline, task.baseline_title, usage, beside=[kept]),
    )
    context.events.write("done", metrics=metrics)


def load(context: Context, folder: Path) -> tuple[Any, Any]:
    """(tokenizer, model in float32); raises TrainingFailure(model_unavailable)."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingFailure(
            "model_unavailable",
            f"{context.spec.model.name} cannot be loaded as a language model: {error}",
            "Choose another model, or see whether its files are whole.",
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise TrainingFailure(
            "model_unavailable",
            f"The tokenizer of {context.spec.model.name} has no token for the end of a text.",
            "Choose another model, or give its tokenizer an eos_token.",
        )
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model


def longest(context: Context, model: Any) -> int:
    """The setting, but no more than the model can read."""
    asked = int(context.settings["max_length"])
    limit = getattr(model.config, "max_position_embeddings", None)
    if isinstance(limit, int) and 0 < limit < asked:
        context.message(f"The model reads no more than {limit:,} tokens; longer rows are cut there.")
        return limit
    return asked


def _samples(conversations: Conversations, rows: Dataset, seed: int) -> list[Sample]:
    numbers = sorted(random.Random(seed).sample(range(len(rows)), min(SAMPLES, len(rows))))  # noqa: S311
    return conversations.samples(rows, numbers, "validation")


def _fit(
    model: Any,
    task: Task,
    pieces: Pieces,
    tokenizer: Any,
    examples: dict[str, Dataset],
    scorer: Scorer,
    answering: Answering,
) -> Any:
    context = pieces.context
    chosen = context.settings
    train = examples["train"]
    if chosen["packing"]:
        if not keeps_rows_apart(model):
            raise TrainingFailure(
                "bad_settings",
                f"In {context.spec.model.name}, rows that are packed onto one line would see each other.",
                "Switch packing off.",
            )
        before = len(train)
        train = packed(train, scorer.collate.max_length)
        context.message(f"{before:,} rows were packed onto {len(train):,} lines.")
    trainer = LanguageTrainer(
        model=model,
        args=arguments(
            context,
            len(train),
            main_metric=task.main_metric,
            higher_is_better=False,
            kind=SFTConfig,
            model=model,
            remove_unused_columns=False,
            gradient_checkpointing=bool(chosen["gradient_checkpointing"]),
            max_length=None,  # rows are cut already
            packing=False,  # and packed: TRL's own packing wants a kernel that not every device has
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=train,
        eval_dataset=examples["validation"],
        processing_class=tokenizer,
        data_collator=scorer.collate,
    )
    lengths = None if chosen["packing"] else [len(ids) for ids in train["input_ids"]]
    trainer.attach(pieces, lengths)
    trainer.scorer, trainer.answering = scorer, answering
    return fit(trainer, context)


class LanguageTrainer(Resumable, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, resumable. An evaluation scores by token and has the sample prompts answered."""

    scorer: Scorer
    answering: Answering

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean over tokens; the Trainer's own is a mean over batches, which depends on how they were made."""
        rows = self.eval_dataset
        found = self.scorer.of(self.model, rows, piece=self.piece)
        self.answering.report(self.model, self.state.global_step, self.piece)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(rows))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint needs none; the finished model gets ours."""


class Scorer:
    """Loss by token, and perplexity, of any language model on rows of token ids."""

    def __init__(self, context: Context, collate: Collator) -> None:
        self.context, self.collate = context, collate

    def of(
        self,
        model: Any,
        rows: Dataset,
        losses: NDArray[np.float32] | None = None,
        piece: Piece = at_once,
    ) -> dict[str, float]:
        """{loss, perplexity}: the mean over the labelled tokens of all rows, in nats.

        `losses` [rows] is filled with the mean of each row that this process reads. `piece` does each batch.
        """
        total, tokens = 0.0, 0.0
        was_training = model.training
        model.eval().to(device())
        with torch.no_grad(), autocast(self.context.settings["precision"]):
            for numbers, counts in distributed.my_share(list(self._batches(model, rows))):
                of_batch, of_rows = piece(
                    partial(self._of_batch, model, [rows[row] for row in numbers], losses is not None)
                )
                if not counts:
                    continue
                total += of_batch[0]
                tokens += of_batch[1]
                if losses is not None:
                    losses[numbers] = of_rows
        model.train(was_training)
        total, tokens = distributed.summed(total, tokens)
        loss = total / max(tokens, 1)
        return {"loss": loss, "perplexity": math.exp(min(loss, LARGEST_LOSS))}

    def _of_batch(
        self, model: Any, rows: list[dict[str, Any]], by_row: bool
    ) -> tuple[tuple[float, int], list[float]]:
        """(sum of the losses, labelled tokens), and the mean of each row if it is asked for."""
        batch = self.collate(rows)
        labels = batch.pop("labels").to(device())
        inputs = {name: tensor.to(device()) for name, tensor in batch.items()}
        logits = model(**inputs, use_cache=False).logits[:, :-1]
        said = labels[:, 1:] != IGNORED
        each = torch.nn.functional.cross_entropy(logits[said].float(), labels[:, 1:][said], reduction="none")
        means = []
        if by_row:
            sums = each.new_zeros(len(rows)).index_add_(0, said.nonzero()[:, 0], each)
            means = (sums / said.sum(dim=1)).tolist()
        return (float(each.sum()), int(said.sum())), means

    def _batches(self, model: Any, rows: Dataset) -> Iterator[list[int]]:
        """Numbers of rows, longest first, no more at once than the setting and their logits allow."""
        lengths = [len(ids) for ids in rows["input_ids"]]
        order = sorted(range(len(rows)), key=lengths.__getitem__, reverse=True)
        tokens = LOGITS_AT_ONCE // int(getattr(model.config, "vocab_size", 1 << 16))
        asked = int(self.context.settings["per_device_eval_batch_size"])
        while order:
            size = max(1, min(asked, tokens // lengths[order[0]]))
            yield order[:size]
            order = order[size:]

    def of_splits(
        self,
        model: Any,
        examples: dict[str, Dataset],
        losses: dict[str, NDArray[np.float32]] | None = None,
        piece: Piece = at_once,
    ) -> dict[str, float]:
        """Plain for the test rows, with `validation_` in front for the validation rows.

        `losses` is filled with {split: mean loss of each row}. `piece` does each batch.
        """
        found: dict[str, float] = {}
        for split, prefix in (("validation", "validation_"), ("test", "")):
            if split in examples:
                each = None
                if losses is not None:
                    each = losses[split] = np.full(len(examples[split]), np.nan, np.float32)
                of_split = self.of(model, examples[split], each, piece)
                found |= {f"{prefix}{name}": value for name, value in of_split.items()}
        if not all(math.isfinite(value) for value in found.values()):
            raise TrainingFailure(
                "diverged",
                "The training diverged: the model's predictions are no finite numbers.",
                "Lower the learning rate or choose the precision float32.",
            )
        return found


class Answering:
    """Has a model answer the sample prompts, always its likeliest word: no random number is drawn."""

    def __init__(self, context: Context, tokenizer: Any, samples: Sequence[Sample]) -> None:
        self.context, self.tokenizer, self.samples = context, tokenizer, samples
        self.room = int(context.settings["sample_max_new_tokens"])

    def report(self, model: Any, step: int, piece: Piece = at_once) -> None:
        """Tell what the model answers at this step. `piece` does each answer."""
        if not self.room:
            return
        items = []
        for number, sample in enumerate(self.samples):
            answer = piece(partial(self.answer, model, sample.text))
            items.append(
                {"number": number, "prompt": sample.shown, "expected": sample.expected, "answer": answer}
            )
        self.context.answers(step, items)

    def answer(self, model: Any, prompt: str) -> str:
        """What follows the prompt, up to the end of the turn or the room there is."""
        template = self.tokenizer.chat_template and "text" not in self.context.spec.columns
        ids = self.tokenizer(prompt, add_special_tokens=not template, return_tensors="pt").input_ids
        limit = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        room = min(self.room, limit // 2)
        ids = ids[:, -min(PROMPT_TOKENS, limit - room) :].to(device())
        was_training = model.training
        model.eval()
        with torch.no_grad(), autocast(self.context.settings["precision"]):
            found = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=room,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                use_cache=True,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        model.train(was_training)
        return str(self.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)).strip()
