"""How what a task makes of a row is laid out: a layout is an entry here and a partial that it names.

`LAYOUTS` are asked in their order which of the given columns they show together: a picture with its boxes, words with
their tags, a prompt with its answer. What none of them takes is shown by the partial of its kind (cells.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from django.urls import reverse

from webapp.datasets import masks, pictures, showing
from webapp.datasets.cells import LONGEST, Cell, cells
from webapp.datasets.findings.personal import masked
from webapp.datasets.mapping import listed
from webapp.datasets.models import DatasetVersion
from webapp.datasets.preview import LARGEST_PICTURE, MOST_PIXELS, content_type
from webapp.datasets.rows import LARGEST_RECORDING
from webapp.datasets.waveforms import waveform

MOST_TURNS = 12
TEXTS = {"text", "label"}
SHORT, SHORT_LINES = 700, 10  # of a text; what is longer unfolds
AROUND = 600  # characters that are shown on each side of an answer
SHORT_PARTS = {"class", "label", "integer", "float", "boolean", "empty"}
MOST_BESIDE = 30  # texts that are shown side by side


@dataclass(frozen=True)
class Given:
    """A column in its role. `number`: of the column, from 0; `is_class`: its values are what rows are sorted into."""

    role: str
    title: str
    column: dict[str, Any]
    number: int
    is_class: bool = False

    @property
    def name(self) -> str:
        return str(self.column["name"])

    @property
    def kind(self) -> str:
        return str(self.column["kind"])


@dataclass
class Source:
    """A row that is being laid out. `number` counts from 1; `whole(column)` reads bytes that `stored` leaves out."""

    version: DatasetVersion
    split: str
    number: int
    stored: dict[str, Any]
    whole: Callable[[str], Any]
    hidden: bool = False  # something that looks like personal data was masked
    troubles: list[str] = field(default_factory=list)  # why a run would stop at this row, as sentences

    def value(self, given: Given) -> Any:
        return self.stored.get(given.name)

    def text(self, given: Given) -> str:
        """As a model reads it: a class by its name."""
        value = self.value(given)
        if given.kind == "label" and value is not None:
            return showing.named(value, given.column.get("names") or [])
        return "" if value is None else str(value)

    def safe(self, text: str) -> str:
        """For a page: what looks like personal data is masked, and that is noted."""
        shown = masked(text)
        self.hidden = self.hidden or shown != text
        return shown

    def told(self, text: str) -> dict[str, Any]:
        """What templates/datasets/cells/text.html shows."""
        is_long = len(text) > SHORT or text.count("\n") > SHORT_LINES
        return {
            "text": self.safe(text[:LONGEST]),
            "short": self.safe(text[:SHORT]).rstrip() if is_long else "",
            "cut": len(text) > LONGEST,
            "blank": not text.strip(),
        }

    def address(self, view: str, given: Given) -> str:
        place = reverse(
            f"datasets:{view}", args=[self.version.dataset_id, self.split, self.number, given.number]
        )
        return f"{place}?version={self.version.content_hash}"


@dataclass(frozen=True)
class Layout:
    """`takes`: the columns that it shows together, none if they are not there; `make`: what its partial gets.

    `titles`: the partial itself says what is what.
    """

    template: str
    takes: Callable[[Sequence[Given]], Sequence[Given]]
    make: Callable[[Sequence[Given], Source], Any]
    titles: bool = False


@dataclass(frozen=True)
class Part:
    """Some columns of a row, and the partial that shows them as `part`, with `part.value` or `part.cell`."""

    given: Sequence[Given]
    template: str
    value: Any = None
    cell: Cell | None = None
    titles: bool = False

    @property
    def title(self) -> str:
        return listed(list(dict.fromkeys(each.title for each in self.given)))

    @property
    def is_short(self) -> bool:
        """Whether others may stand in the same line."""
        return self.template.rsplit("/", 1)[1].removesuffix(".html") in SHORT_PARTS


def parts(given: Sequence[Given], source: Source) -> list[Part]:
    """All of them, in the order of their first columns."""
    left, found = list(given), []
    for layout in LAYOUTS:
        while taken := list(layout.takes(left)):
            template = f"datasets/mapped/{layout.template}.html"
            found.append(Part(taken, template, layout.make(taken, source), titles=layout.titles))
            left = [each for each in left if each not in taken]
    tokens = next((each.column for each in given if each.kind == "tokens"), None)
    for each in left:
        found.append(_alone(each, source, tokens))
    for each in given:
        value = source.value(each)
        if value is None or (isinstance(value, str) and not value.strip()):
            source.troubles.append(f"“{each.name}” is empty.")
    return sorted(found, key=lambda part: min(given.index(each) for each in part.given))


def _alone(given: Given, source: Source, tokens: dict[str, Any] | None) -> Part:
    if given.is_class and source.value(given) is not None:
        value = source.text(given)
        if given.kind == "boolean":
            value = value.lower()
        return Part([given], "datasets/mapped/class.html", value)
    row = source.stored
    if given.kind in ("text", "json") and isinstance(row.get(given.name), str):
        return Part([given], "datasets/mapped/text.html", source.told(row[given.name]))
    columns = [given.column, *([tokens] if tokens and tokens is not given.column else [])]
    cell = replace(cells(row, columns)[0], number=given.number)
    return Part([given], cell.template, cell=cell)


# -- which columns go together --------------------------------------------------------------------


def _roles(
    *names: str, kinds: set[str], also: Sequence[str] = ()
) -> Callable[[Sequence[Given]], list[Given]]:
    """Columns in exactly these roles, with those of `also` that are there."""

    def takes(given: Sequence[Given]) -> list[Given]:
        by_role = {each.role: each for each in given if each.kind in kinds}
        if not set(names) <= set(by_role):
            return []
        return [each for each in given if each.role in {*names, *also} and by_role.get(each.role) is each]

    return takes


def _kinds(*kinds: str) -> Callable[[Sequence[Given]], list[Given]]:
    """The first column of each of these kinds."""

    def takes(given: Sequence[Given]) -> list[Given]:
        found = [next((each for each in given if each.kind == kind), None) for kind in kinds]
        return [each for each in found if each] if all(found) else []

    return takes


def _conversation(given: Sequence[Given]) -> list[Given]:
    return [each for each in given if each.kind == "messages" or _is_conversation(each)][:1]


def _is_conversation(given: Given) -> bool:
    return given.kind == "json" and given.role in ("messages", "conversation", "conversations")


def _several_texts(given: Sequence[Given]) -> list[Given]:
    found = [each for each in given if each.kind == "text"]
    return found[:MOST_BESIDE] if len(found) > 1 else []


# -- what their partials get ----------------------------------------------------------------------


def _turns(given: Given, source: Source, role: str) -> dict[str, Any]:
    """{"turns": [{role, content as of a text}], "more", "answered"}; a text is one turn of `role`."""
    value = source.value(given)
    if given.kind == "json" and value is not None:
        value = _parsed(given, source, str(value))
    if isinstance(value, str) or given.kind not in ("messages", "json"):
        said = [{"role": role, "content": source.text(given)}] if value is not None else []
    else:
        said = [each for each in value or [] if isinstance(each, dict)]
    turns = [
        {"role": str(each.get("role") or ""), "content": source.told(str(each.get("content") or ""))}
        for each in said[:MOST_TURNS]
    ]
    roles = [str(each.get("role")) for each in said if str(each.get("content") or "").strip()]
    return {"turns": turns, "more": max(0, len(said) - MOST_TURNS), "answered": "assistant" in roles[1:]}


def _parsed(given: Given, source: Source, text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return value
    source.troubles.append(f"“{given.name}” is no list of messages here.")
    return text


def _chat(given: Sequence[Given], source: Source) -> dict[str, Any]:
    if len(given) == 1:
        told = _turns(given[0], source, "user")
        if told["turns"] and not told["answered"]:
            source.troubles.append(
                f"In “{given[0].name}” no message of the assistant answers another: there is nothing to learn."
            )
        return told
    by_role = {each.role: each for each in given}
    prompt = _turns(by_role["prompt"], source, "user")
    answer = _turns(by_role["completion"], source, "assistant")
    return {"turns": prompt["turns"] + answer["turns"], "more": prompt["more"] + answer["more"]}


def _pair(given: Sequence[Given], source: Source) -> dict[str, Any]:
    """The prompt's turns, empty without one, and both answers, without what they repeat of the prompt."""
    by_role = {each.role: each for each in given}
    told = {
        name: _turns(each, source, "user" if name == "prompt" else "assistant")
        for name, each in by_role.items()
    }
    prompt = told.get("prompt", {}).get("turns", [])
    for name in ("chosen", "rejected"):
        turns = told[name]["turns"]
        if prompt and turns[: len(prompt)] == prompt:
            told[name]["turns"] = turns[len(prompt) :]
    return {"prompt": prompt, "chosen": told["chosen"], "rejected": told["rejected"]}


def _question(given: Sequence[Given], source: Source) -> dict[str, Any]:
    """{"question", "pieces": [(text, is an answer)], "answers", "found": the answer stands in the context}"""
    by_role = {each.role: each for each in given}
    context = source.text(by_role["context"])
    answer = next((each for each in given if each.role in ("answers", "answer")), None)
    texts, starts = _answers(source.value(answer), source, answer) if answer else ([], [])
    start, end = _place(context, texts, starts)
    if start < 0:
        pieces = [(source.safe(context[: 4 * AROUND]), False)]
    else:
        before, after = max(0, start - AROUND), min(len(context), end + AROUND)
        pieces = [
            (("…" if before else "") + source.safe(context[before:start]), False),
            (source.safe(context[start:end]), True),
            (source.safe(context[end:after]) + ("…" if after < len(context) else ""), False),
        ]
    return {
        "question": source.told(source.text(by_role["question"])),
        "pieces": pieces,
        "answers": [source.safe(text) for text in dict.fromkeys(texts)],
        "asked": answer is not None,
        "found": start >= 0,
    }


def _answers(value: Any, source: Source, given: Given) -> tuple[list[str], list[int]]:
    """Texts and where they begin, -1 if that is not said."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if given.kind == "json" else value
        except (ValueError, RecursionError):
            return [value], [-1]
    if isinstance(value, dict):
        texts = [str(text) for text in value.get("text") or []]
        starts = [start for start in value.get("answer_start") or [] if isinstance(start, int)]
        return texts, starts + [-1] * (len(texts) - len(starts))
    text = source.text(given)
    return ([text], [-1]) if text else ([], [])


def _place(context: str, texts: list[str], starts: list[int]) -> tuple[int, int]:
    """Where the first answer stands in the context; (-1, -1) if none does."""
    for text, said in zip(texts, starts, strict=False):
        start = said if said >= 0 and context[said : said + len(text)] == text else context.find(text)
        if text and start >= 0:
            return start, start + len(text)
    return -1, -1


def _drawn(given: Sequence[Given], source: Source) -> dict[str, Any]:
    """Boxes on their picture: `source`, width and height, and what webapp.datasets.showing.boxes says."""
    image, objects = given
    value = source.value(objects)
    if value is None:
        value = {"bbox": [], "category": []}
    data = (source.whole(image.name) or {}).get("bytes") or b""
    width = height = 0
    if content_type(data) and len(data) <= LARGEST_PICTURE:
        with suppress(pictures.Unreadable):
            width, height = pictures.size_of(data, MOST_PIXELS)
    shown = source.address("row_picture", image) if width else ""
    boxes = showing.boxes(value, objects.column.get("names") or [])
    return {**boxes, "source": shown, "width": width, "height": height}


def _masked(given: Sequence[Given], source: Source) -> dict[str, Any]:
    """A mask on its picture: their addresses (`source` of the mask, `below` of the picture), its size, its legend."""
    image, mask = given
    data = (source.whole(mask.name) or {}).get("bytes") or b""
    width, height = masks.size_of(data) or (0, 0)
    below = (source.whole(image.name) or {}).get("bytes") or b""
    plays = bool(content_type(below)) and len(below) <= LARGEST_PICTURE
    return {
        "source": source.address("row_picture", mask) if width else "",
        "below": source.address("row_picture", image) if plays else "",
        "width": width,
        "height": height,
        **masks.legend(data, mask.column.get("names") or []),
    }


def _sound(given: Sequence[Given], source: Source) -> dict[str, Any]:
    """{"sound": its address, empty if no page plays it, "size": bytes, "wave": Waveform or None}"""
    data = (source.whole(given[0].name) or {}).get("bytes") or b""
    plays = 0 < len(data) <= LARGEST_RECORDING
    return {
        "sound": source.address("recording", given[0]) if plays else "",
        "size": len(data),
        "wave": waveform(data) if plays else None,
    }


def _entities(given: Sequence[Given], source: Source) -> dict[str, Any]:
    """{"entities": as webapp.datasets.showing.entities, "legend": [{tag, hue, count}]}"""
    tokens, tags = given
    words = [source.safe(word or "") for word in source.value(tokens) or []]
    found = showing.entities(source.value(tags) or [], words, tags.column.get("names") or [])
    legend: dict[str, dict[str, Any]] = {}
    for each in found:
        if each["tag"]:
            line = legend.setdefault(each["tag"], {"tag": each["tag"], "hue": each["hue"], "count": 0})
            line["count"] += 1
    return {"entities": found, "legend": sorted(legend.values(), key=lambda line: str(line["tag"]))}


def _beside(given: Sequence[Given], source: Source) -> list[dict[str, Any]]:
    return [
        {"title": each.title, "column": each.name, "text": source.told(source.text(each))} for each in given
    ]


LAYOUTS = (
    Layout("pair", _roles("chosen", "rejected", kinds={"text", "messages"}, also=["prompt"]), _pair),
    Layout("chat", _roles("prompt", "completion", kinds=TEXTS), _chat),
    Layout("chat", _conversation, _chat),
    Layout(
        "question",
        _roles("question", "context", kinds={"text", "label", "answers", "json"}, also=["answers", "answer"]),
        _question,
    ),
    Layout("drawn", _kinds("image", "objects"), _drawn),
    Layout("masked", _kinds("image", "mask"), _masked),
    Layout("sound", _kinds("audio"), _sound),
    Layout("entities", _kinds("tokens", "tags"), _entities),
    Layout("beside", _several_texts, _beside, titles=True),
)
