"""The mapping form: which task, which columns, and three rows as the model will see them."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from runs.training.tasks.common import Role
from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.packing import picture, recording, zipped
from tests.webapp.datasets.test_browse import stored
from webapp.accounts.models import User
from webapp.datasets import suggestion
from webapp.datasets.models import Dataset

NASTY = "<script>alert(1)</script>"
CSV = b"stars,sentence,label,id\n" + b"".join(
    f"{n}.5,this is sentence {n} {NASTY},{'ab'[n % 2]},{n}\n".encode() for n in range(200)
)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


@pytest.fixture
def reviews(inspected: Inspected) -> Dataset:
    return inspected(("reviews.csv", CSV))


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register a task for as long as the test lasts: no task here wants all kinds of columns yet."""

    def register(slug: str, *roles: Role) -> None:
        known = dict(suggestion.registered())
        names = tuple(role.name for role in roles)
        known[slug] = suggestion.TaskNeeds(slug, slug.title(), (names,), {role.name: role for role in roles})
        monkeypatch.setattr(suggestion, "_registered", known)

    return register


def a_mask(n: int) -> bytes:
    """Of the size that `picture` has: the upper half is class 1."""
    size = Image.open(io.BytesIO(picture(n))).size
    made = Image.new("L", size, 0)
    made.paste(1, (0, 0, size[0], size[1] // 2))
    target = io.BytesIO()
    made.save(target, "PNG")
    return target.getvalue()


def page(client: Client, dataset: Dataset, **said: Any) -> str:
    answer = client.get(reverse("datasets:mapping", args=[dataset.pk]), said)
    assert answer.status_code == 200
    return answer.content.decode()


def told(part: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", part)))


def examples(shown: str) -> list[str]:
    return re.findall(r'<article class="card example".*?</article>', shown, re.S)


def chosen(shown: str, field: str) -> str:
    select = re.search(rf'<select name="{field}".*?</select>', shown, re.S)
    assert select, field
    found = re.search(r'<option value="([^"]*)" selected', select[0])
    return html.unescape(found[1]) if found else ""


def error(shown: str, field: str) -> str:
    found = re.search(rf'id="id_{field}_error">(.*?)</div>', shown, re.S)
    return told(found[1]).strip() if found else ""


def test_the_suggestion_is_filled_in_and_three_rows_are_shown_through_it(
    client: Client, reviews: Dataset
) -> None:
    shown = page(client, reviews)
    assert chosen(shown, "task") == "text-classification"
    assert (chosen(shown, "column-text"), chosen(shown, "column-label")) == ("sentence", "label")
    rows = examples(shown)
    assert len(rows) == 3 and "this is sentence" in told(rows[0]) and "stars" not in told(rows[0])
    assert re.search(r'class-mark">.*?</svg>[ab]</span>', rows[0], re.S)
    assert error(shown, "column-text") == error(shown, "column-label") == ""


def test_what_stands_in_a_row_is_never_markup(client: Client, reviews: Dataset) -> None:
    shown = page(client, reviews)
    assert NASTY not in shown and html.escape(NASTY) in shown
    assert NASTY not in page(client, reviews, **{"column-text": NASTY, "task": NASTY, "set": NASTY})


def test_the_next_three_rows_follow_and_the_way_back_is_there(client: Client, reviews: Dataset) -> None:
    assert reviews.version is not None
    seen, address = [], reverse("datasets:mapping", args=[reviews.pk]) + "?column-text=sentence&split=test"
    while address:
        shown = client.get(address).content.decode()
        seen += re.findall(r'id="example-(\d+)"', shown)
        found = re.search(r'rel="next" href="([^"#]+)', shown)
        address = reverse("datasets:mapping", args=[reviews.pk]) + html.unescape(found[1]) if found else ""
    assert seen == [str(n) for n in range(1, reviews.version.splits["test"] + 1)]
    assert 'rel="prev"' in shown and 'rel="prev"' not in page(client, reviews)


@pytest.mark.parametrize("start", ["0", "-1", "x", "9" * 30, "99999999"])
def test_any_start_shows_rows(client: Client, reviews: Dataset, start: str) -> None:
    assert examples(page(client, reviews, start=start))


def test_a_column_that_does_not_suit_says_why_and_which_would(client: Client, reviews: Dataset) -> None:
    shown = page(client, reviews, **{"column-text": "stars", "column-label": "id"})
    assert error(shown, "column-text") == "“stars” holds numbers. Text takes texts: “sentence”."
    assert error(shown, "column-label") == (
        "“id” has 200 different values; to sort rows into classes takes 2 to 100. “label” would do."
    )
    assert chosen(shown, "column-text") == "stars", "what was chosen stays as it is"
    assert 'aria-invalid="true"' in shown and "aria-describedby=" in shown
    gone = error(page(client, reviews, **{"column-text": "nope"}), "column-text")
    assert gone == "There is no column “nope”. Text takes texts: “sentence”."


def test_few_different_texts_can_be_classes(client: Client, inspected: Inspected) -> None:
    rows = b"".join(b"sentence %d to read,topic number %d\n" % (n, n % 30) for n in range(90))
    dataset = inspected(("rows.csv", b"text,topic\n" + rows))
    said = {"task": "text-classification", "column-text": "text", "column-label": "topic"}
    shown = page(client, dataset, **said)
    assert error(shown, "column-label") == "" and "topic number" in told(examples(shown)[0])
    assert (
        error(
            page(client, dataset, **said | {"column-label": "text", "column-text": "topic"}), "column-label"
        )
        == ""
    )


def test_one_column_cannot_play_two_roles(client: Client, inspected: Inspected) -> None:
    pairs = "".join(f"is {n} odd or even?,the number {n} is what it is\n" for n in range(60))
    dataset = inspected(("pairs.csv", f"prompt,completion\n{pairs}".encode()), columns={"prompt": "prompt"})
    shown = page(
        client,
        dataset,
        task="text-generation",
        set="prompt+completion",
        **{"column-prompt": "prompt", "column-completion": "prompt"},
    )
    assert error(shown, "column-completion") == "“prompt” is the prompt already; choose another column."


def test_a_role_without_a_column_says_what_it_needs(client: Client, reviews: Dataset) -> None:
    shown = page(client, reviews, task="image-classification")
    assert error(shown, "column-image") == "Picture takes pictures; no column here holds that."
    assert chosen(shown, "column-label") == "label"
    assert "Columns are missing" in shown


def test_another_task_gets_its_own_columns_and_not_those_of_the_one_before(
    client: Client, reviews: Dataset
) -> None:
    before = {"shown": "text-classification:text+label", "column-text": "stars", "column-label": "label"}
    shown = page(client, reviews, task="text-generation", set="text", **before)
    assert chosen(shown, "column-text") == "sentence" and error(shown, "column-text") == ""
    assert 'name="shown" value="text-generation:text"' in shown


def test_without_a_task_every_column_is_shown(client: Client, reviews: Dataset) -> None:
    shown = page(client, reviews, task="")
    assert "column-text" not in shown
    assert all(name in told(examples(shown)[0]) for name in ("stars", "sentence", "label", "id"))


def test_htmx_gets_what_changes_and_nothing_else(client: Client, reviews: Dataset) -> None:
    address = reverse("datasets:mapping", args=[reviews.pk])
    part = client.get(address, {"column-text": "stars"}, headers={"HX-Request": "true"})
    assert part.content.decode().lstrip().startswith('<div class="mapping"')
    assert "<html" not in part.content.decode() and "HX-Request" in part["Vary"]
    assert part["Cache-Control"] == "private, no-store"


def test_a_row_that_would_stop_a_run_says_so(client: Client, inspected: Inspected) -> None:
    lines = "".join(f"text number {n},{'ab'[n % 2] if n % 4 else ''}\n" for n in range(80))
    dataset = inspected(("gaps.csv", f"text,label\n{lines}".encode()))
    labels = [row["label"] for row in stored(dataset, "train")]
    shown = examples(page(client, dataset, start=labels.index(None) + 1))
    assert "A run would stop at this row. “label” is empty." in told(shown[0])
    assert "A run would stop" not in told(shown[1])


def test_personal_data_is_masked_and_that_is_said(client: Client, inspected: Inspected) -> None:
    lines = "".join(f"write to person{n}@example.org now,{'ab'[n % 2]}\n" for n in range(60))
    shown = page(client, inspected(("mails.csv", f"text,label\n{lines}".encode())))
    assert "@example.org" not in shown and "p•••@•••" in shown
    assert "is masked on this page. The model sees it as it is" in told(shown)
    assert "is masked on this page" not in told(page(client, inspected(("r.csv", CSV))))


def test_rows_that_are_gone_are_told(client: Client, reviews: Dataset) -> None:
    from webapp import storage

    assert reviews.version is not None
    path = storage.local_path(f"{reviews.version.storage_prefix}/train-00000-of-00001.parquet")
    assert path is not None
    path.write_bytes(b"PAR1 and then nothing")
    assert "are damaged, or went a moment ago" in told(page(client, reviews))
    path.unlink()
    assert "missing from storage" in told(page(client, reviews))


# -- each kind, with real data where there is some -------------------------------------------------


def test_conversations_are_bubbles(client: Client, inspected: Inspected) -> None:
    said = [
        {"messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Question {n} {NASTY}"},
            {"role": "assistant", "content": f"Answer {n}"},
        ]} for n in range(40)
    ]  # fmt: skip
    shown = page(client, inspected(("chat.jsonl", "\n".join(map(json.dumps, said)).encode())))
    row = examples(shown)[0]
    assert re.findall(r"bubble bubble-(\w+)", row) == ["system", "other", "assistant"]
    assert NASTY not in row and "A run would stop" not in row


def test_a_conversation_without_an_answer_would_stop_a_run(client: Client, inspected: Inspected) -> None:
    said = [{"messages": [{"role": "user", "content": f"Anybody there? {n}"}]} for n in range(40)]
    dataset = inspected(("chat.jsonl", "\n".join(map(json.dumps, said)).encode()))
    assert "no message of the assistant answers another" in told(examples(page(client, dataset))[0])


def test_real_instructions_are_a_prompt_and_its_answer(
    client: Client, inspected: Inspected, shared_data: Path
) -> None:
    row = examples(page(client, inspected(shared_data / "instructions.jsonl")))[0]
    assert re.findall(r"bubble bubble-(\w+)", row)[:2] == ["other", "assistant"]


def test_a_better_and_a_worse_answer_stand_side_by_side(client: Client, inspected: Inspected) -> None:
    said = [
        {"prompt": f"Hello {n}", "chosen": f"Good day to you, {n}!", "rejected": f"Go away, {n}."}
        for n in range(40)
    ]
    dataset = inspected(("pairs.jsonl", "\n".join(map(json.dumps, said)).encode()))
    row = told(examples(page(client, dataset, task=""))[0])
    assert re.search(r"user Hello \d+ Better assistant Good day to you, \d+! Worse assistant Go away", row)


def test_real_translations_stand_side_by_side(
    client: Client, inspected: Inspected, shared_data: Path, task: Any
) -> None:
    dataset = inspected(shared_data / "multi30k-en-de.jsonl")
    task(
        "translation",
        Role("source", "Source", "", ("text",), ("en",)),
        Role("target", "Target", "", ("text",), ("de",)),
    )
    shown = page(client, dataset, task="translation")
    assert (chosen(shown, "column-source"), chosen(shown, "column-target")) == ("en", "de")
    row = examples(shown)[0]
    assert re.findall(r'beside-title">(\w+)', row) == ["Source", "Target"]
    swapped = {"column-source": "de", "column-target": "en", "task": "translation"}
    first = [
        told(part).split()
        for part in re.findall(r'<div class="example-text" dir="auto">(.*?)</div>', row, re.S)
    ]
    other = examples(page(client, dataset, **swapped))[0]
    second = [
        told(part).split()
        for part in re.findall(r'<div class="example-text" dir="auto">(.*?)</div>', other, re.S)
    ]
    assert len(first) == 2 and first == second[::-1]


def test_real_boxes_are_drawn_on_their_picture(
    client: Client, inspected: Inspected, shared_data: Path, task: Any
) -> None:
    dataset = inspected(shared_data / "bccd-voc.zip")
    task(
        "object-detection",
        Role("image", "Picture", "", ("image",)),
        Role("objects", "Boxes", "", ("objects",)),
    )
    row = examples(page(client, dataset, task="object-detection"))[0]
    assert row.count("<rect") > 3 and 'viewBox="0 0 640 480"' in row and "style=" not in row
    picture = re.search(r'<image href="([^"]+)"', row)
    assert picture
    answer = client.get(html.unescape(picture[1]))
    assert answer.status_code == 200 and answer["Content-Type"] == "image/jpeg"
    assert "RBC ×" in told(row)


def test_masks_are_laid_over_their_picture(client: Client, inspected: Inspected, task: Any) -> None:
    files = {
        f"{kind}/{n}.png": made(n)
        for n in range(12)
        for kind, made in (("images", picture), ("masks", a_mask))
    }
    dataset = inspected(("shapes.zip", zipped({**files, "classes.txt": b"ground\n<b>sky\n"})))
    task("image-segmentation", Role("image", "Picture", "", ("image",)), Role("mask", "Mask", "", ("mask",)))
    row = examples(page(client, dataset, task="image-segmentation"))[0]
    assert row.count("<svg") and "<b>" not in row and "<b>sky" in told(row)
    addresses = re.findall(r'<image[^>]* href="([^"]+)"', row)
    assert len(addresses) == 2
    for address in addresses:
        assert client.get(html.unescape(address))["Content-Type"] == "image/png"


def test_real_recordings_have_a_player_and_a_waveform(
    client: Client, inspected: Inspected, shared_data: Path
) -> None:
    row = examples(page(client, inspected(shared_data / "spoken-digits.zip"), task=""))[0]
    path = re.search(r'<path d="([^"]+)"', row)
    assert path and path[1].count("M") == 200
    sound = re.search(r'<audio[^>]+src="([^"]+)"', row)
    assert sound
    answer = client.get(html.unescape(sound[1]))
    assert answer.status_code == 200 and answer.content.startswith(b"RIFF")
    assert "s at 8,000 samples a second, mono" in told(row)


def test_recordings_in_class_folders_show_their_class(
    client: Client, inspected: Inspected, task: Any
) -> None:
    files = {f"{label}/{n}.wav": recording(n) for label in ("yes", "no") for n in range(20)}
    dataset = inspected(("words.zip", zipped(files)))
    task(
        "audio-classification",
        Role("audio", "Recording", "", ("audio",)),
        Role("label", "Label", "", ("label",)),
    )
    row = examples(page(client, dataset, task="audio-classification"))[0]
    assert "<audio" in row and re.search(r'class-mark">.*?</svg>(yes|no)</span>', row, re.S)


def test_real_entities_are_coloured_with_a_legend(
    client: Client, inspected: Inspected, shared_data: Path, task: Any
) -> None:
    dataset = inspected(shared_data / "ner-wikiann/dev.conll")
    task(
        "token-classification", Role("tokens", "Words", "", ("tokens",)), Role("tags", "Tags", "", ("tags",))
    )
    rows = examples(page(client, dataset, task="token-classification"))
    marked = [row for row in rows if '<mark class="entity hue-' in row]
    assert marked and re.search(r"(LOC|ORG|PER) × \d", told(marked[0]))


def test_an_answer_is_marked_in_its_context(client: Client, inspected: Inspected) -> None:
    said = [
        {
            "question": f"Who wrote program {n}?",
            "context": f"In 1843 Ada Lovelace {NASTY} wrote program {n} for the engine.",
            "answer": "Ada Lovelace",
        }
        for n in range(40)
    ]
    dataset = inspected(("qa.jsonl", "\n".join(map(json.dumps, said)).encode()))
    row = examples(page(client, dataset, task=""))[0]
    assert '<mark class="answer-mark">Ada Lovelace</mark>' in row and NASTY not in row


def test_viewers_may_look(client: Client, reviews: Dataset, viewer: User) -> None:
    client.force_login(viewer)
    assert len(examples(page(client, reviews))) == 3


def test_the_page_of_a_dataset_leads_here(client: Client, reviews: Dataset, viewer: User) -> None:
    address = reverse("datasets:detail", args=[reviews.pk])
    link = f'href="{reverse("datasets:mapping", args=[reviews.pk])}">'
    shown = client.get(address).content.decode()
    assert link in shown and "Change (task and columns)" in told(shown)
    client.force_login(viewer)
    shown = client.get(address).content.decode()
    assert link in shown and "See examples (task and columns)" in told(shown)
