"""Text generation: supervised fine-tuning of a language model on prompts with answers, conversations, or texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runs.training import settings
from runs.training.tasks.common import FULL, LORA, MetricInfo, Role, Setting, Task

if TYPE_CHECKING:
    from runs.training.context import Context

GRADIENT = tuple(
    {
        "learning_rate": settings.for_methods(
            settings.LEARNING_RATE, defaults_by_method=(("full", 2e-5), ("lora", 2e-4))
        ),
        "num_train_epochs": settings.for_methods(settings.NUM_TRAIN_EPOCHS, default=2.0),
        "per_device_train_batch_size": settings.for_methods(settings.BATCH_SIZE, default=8),
    }.get(item.name, item)
    for item in settings.GRADIENT
)
PACKING = Setting(
    "packing",
    "Packing",
    "Puts several short rows on one line, so that no time goes into padding. Rows do not see each other. Worth it "
    "where rows are much shorter than the longest text.",
    "bool",
    False,
)
GRADIENT_CHECKPOINTING = Setting(
    "gradient_checkpointing",
    "Gradient checkpointing",
    "Computes parts twice instead of keeping them: about a third slower, with far less memory.",
    "bool",
    False,
    advanced=True,
)
SAMPLE_LENGTH = Setting(
    "sample_max_new_tokens",
    "Length of sample answers",
    "At each evaluation four prompts of the validation rows are answered, with at most so many tokens; 0: none.",
    "int",
    48,
    minimum=0,
    maximum=1024,
    advanced=True,
    unit="tokens",
)


class TextGeneration(Task):
    """Teaches a language model to answer as the rows do."""

    slug = "text-generation"
    title = "Text generation"
    summary = "Teaches a language model to answer, chat or write in the way of your examples."
    icon = "message-chatbot"
    order = 30
    model_kinds = ("text-decoder",)
    roles = (
        Role(
            "messages",
            "Conversation",
            "Messages with role (system, user, assistant) and content; what the assistant says is learnt.",
            ("messages", "json"),
            ("messages", "conversation", "conversations", "chat", "dialogue"),
        ),
        Role(
            "prompt",
            "Prompt",
            "What the model is asked.",
            ("text", "label"),
            ("prompt", "instruction", "question", "input", "query", "request"),
        ),
        Role(
            "completion",
            "Answer",
            "What the model should answer; it learns this and not the prompt.",
            ("text", "label"),
            ("completion", "response", "answer", "output", "reply"),
        ),
        Role(
            "text",
            "Text",
            "Whole texts to learn to continue, such as articles or poems.",
            ("text",),
            ("text", "content", "document", "body"),
        ),
    )
    column_sets = (("messages",), ("prompt", "completion"), ("text",))
    methods = (LORA, FULL)
    settings = (
        *GRADIENT,
        settings.for_methods(settings.MAX_LENGTH, default=512),
        PACKING,
        *settings.LORA,
        GRADIENT_CHECKPOINTING,
        SAMPLE_LENGTH,
        *(
            settings.for_methods(item, default=16) if item is settings.EVAL_BATCH_SIZE else item
            for item in settings.COMMON
        ),
    )
    metrics = (
        MetricInfo("loss", "Loss", False, help="How surprised the model is by the right answers; 0 is best."),
        MetricInfo(
            "perplexity",
            "Perplexity",
            False,
            help="Among how many words the model wavers, on average, at each word of the right answers; 1 is best.",
        ),
    )
    main_metric = "loss"
    baseline_title = "The base model"
    usage = """
from transformers import pipeline

chat = pipeline("text-generation", model="path/to/this/folder")
print(chat([{"role": "user", "content": "Your question"}], max_new_tokens=200)[0]["generated_text"][-1])
"""
    usage_for_texts = """
from transformers import pipeline

write = pipeline("text-generation", model="path/to/this/folder")
print(write("How your text begins", max_new_tokens=200)[0]["generated_text"])
"""

    def usage_for(self, columns: Mapping[str, str]) -> str:
        return self.usage_for_texts if "text" in columns else self.usage

    def train(self, context: Context) -> None:
        from runs.training.language import train_language_model

        train_language_model(self, context)


TASK = TextGeneration()
