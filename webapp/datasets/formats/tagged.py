"""Words with a tag each, as rows of lists: {"tokens": ["Ada", "wrote"], "ner_tags": ["B-PER", "O"]}."""

from __future__ import annotations

from typing import Any, TypeGuard

TOKENS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "pos_tags", "chunk_tags", "labels")
MOST_TAGS = 1000


class TaggedWords:
    """Looks at every row of a file: two of its columns are words and tags if they are so in each row."""

    def __init__(self) -> None:
        self._keys: tuple[str, str] | None = None
        self._fits, self._looked = True, False
        self._names: set[str] = set()

    def look(self, row: dict[str, Any]) -> None:
        """The first row says which columns it may be."""
        if not self._looked:
            self._looked = True
            tokens = next((key for key in row if key.lower() in TOKENS), None)
            tags = next((key for key in row if key.lower() in TAGS), None)
            self._keys = (tokens, tags) if tokens is not None and tags is not None else None
        if self._keys is None or not self._fits:
            return
        words, tags_of = (row.get(key) for key in self._keys)
        if words is None and tags_of is None:
            return
        if not _is_texts(words) or not _is_texts(tags_of) or len(words) != len(tags_of):
            self._fits = False
            return
        self._names.update(tags_of)
        self._fits = len(self._names) <= MOST_TAGS

    def kinds(self) -> dict[str, str]:
        """{key: "tokens" or "tags"}; empty where nothing is tagged."""
        if self._keys is None or not self._fits or not self._names:
            return {}
        return dict(zip(self._keys, ("tokens", "tags"), strict=True))


def _is_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
