"""Many people watch one run: it is rendered once for all of them, and nobody gets what is another's."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F
from django.template import engines
from django.test import Client
from django.utils import timezone

from runs.models import Event, Metric, Run
from webapp import fragments, watching
from webapp.accounts.models import Membership, Session, User, Workspace
from webapp.datasets.models import DatasetVersion
from webapp.fragments import Fragment, PersonalFragment, Shelf

from .conftest import Lab, text_of

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@pytest.fixture(autouse=True)
def renders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The templates that were rendered to be shared."""
    done: list[str] = []
    real = fragments.render_to_string

    def counted(template: str, *rest: Any) -> str:
        done.append(template)
        return real(template, *rest)

    fragments.shelf.clear()
    monkeypatch.setattr(fragments, "render_to_string", counted)
    yield done
    fragments.shelf.clear()


@pytest.fixture
def run(lab: Lab) -> Run:
    return lab.run(status="running", phase="training", step=3, total_steps=10, started_at=timezone.now())


def watcher(lab: Lab, name: str, role: str = "member") -> Client:
    """Somebody of this workspace who has the page of a run open."""
    person, new = User.objects.get_or_create(username=name, defaults={"last_workspace": lab.workspace})
    if new:
        Membership.objects.create(user=person, workspace=lab.workspace, role=role)
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    client.get("/")
    return client


def poll(client: Client, run: Run, seen: int = 0) -> Any:
    headers = {"HX-Request": "true", "HX-PTag": f"{run.pk}-{seen}"}
    return client.get(f"/runs/{run.pk}/", headers=headers)


def moves_on(run: Run, **values: Any) -> None:
    Run.objects.filter(pk=run.pk).update(row_version=F("row_version") + 1, **values)


def points(client: Client, run: Run) -> Any:
    return client.get(f"/runs/{run.pk}/points/?since=loss:1")


def test_what_one_has_rendered_the_others_get_with_one_query(
    lab: Lab, run: Run, renders: list[str], django_assert_num_queries: Callable[[int], Any]
) -> None:
    first, second = watcher(lab, "ada"), watcher(lab, "grace")
    one = poll(first, run)
    with django_assert_num_queries(1):
        other = poll(second, run)
    with django_assert_num_queries(1):
        assert poll(second, run, seen=1).status_code == 304
    assert one.status_code == other.status_code == 200 and renders == ["runs/detail.html#live"]
    assert text_of(one.content.decode()) == text_of(other.content.decode())
    assert one["HX-PTag"] == other["HX-PTag"] == f"{run.pk}-1"
    assert "no-store" in other["Cache-Control"] and "HX-Request" in other["Vary"]


def test_what_is_rendered_again_and_again_asks_once_for_each_thing_and_for_no_rows_of_the_dataset(
    lab: Lab, run: Run, django_assert_num_queries: Callable[[int], Any]
) -> None:
    ada = watcher(lab, "ada")
    with django_assert_num_queries(8) as asked:
        assert poll(ada, run).status_code == 200
    large = [f'"{DatasetVersion._meta.db_table}"."{name}"' for name in DatasetVersion.LARGE]
    assert not any(name in query["sql"] for query in asked for name in large)


def test_each_gets_a_token_of_their_own_that_works_for_nobody_else(lab: Lab, run: Run) -> None:
    ada, grace = watcher(lab, "ada"), watcher(lab, "grace")
    poll(ada, run)
    hers = TOKEN.findall(poll(ada, run).content.decode())
    others = TOKEN.findall(poll(grace, run).content.decode())
    assert hers and others and not set(hers) & set(others)
    address = f"/runs/{run.pk}/pause/"
    assert grace.post(address, {"csrfmiddlewaretoken": hers[0]}).status_code == 403
    assert grace.post(address, {"csrfmiddlewaretoken": others[0]}).status_code == 302
    assert Run.objects.get(pk=run.pk).desired == "pause"


def test_a_viewer_gets_no_buttons_from_an_editor(lab: Lab, run: Run, renders: list[str]) -> None:
    editor, viewer = watcher(lab, "ada"), watcher(lab, "vera", "viewer")
    assert "Pause" in text_of(poll(editor, run).content.decode())
    assert "Pause" not in text_of(poll(viewer, run).content.decode())
    assert "Pause" in text_of(poll(watcher(lab, "grace"), run).content.decode())
    assert len(renders) == 3, "the viewer's, the editors' along with it, and the first"


def test_what_is_read_for_an_editor_is_rendered_for_viewers_too_while_one_watches(
    lab: Lab,
    run: Run,
    renders: list[str],
    django_assert_num_queries: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    editor, viewer = watcher(lab, "ada"), watcher(lab, "vera", "viewer")
    poll(viewer, run)
    assert len(renders) == 1, "no editor watches"
    moves_on(run, step=4)
    monkeypatch.setattr(fragments, "FRESH_SECONDS", 0.0)
    with django_assert_num_queries(8):
        mine = text_of(poll(editor, run).content.decode())
    monkeypatch.setattr(fragments, "FRESH_SECONDS", 60.0)
    with django_assert_num_queries(1):
        theirs = text_of(poll(viewer, run, seen=1).content.decode())
    assert len(renders) == 3 and "4 of 10" in mine and "4 of 10" in theirs
    assert "Pause" in mine and "Pause" not in theirs


def test_until_it_is_rendered_for_both_nobody_else_begins(
    lab: Lab, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, viewer = watcher(lab, "ada"), watcher(lab, "vera", "viewer")
    for client in (editor, viewer):
        poll(client, run)
    key, state = fragments.key_of("runs_run", run.pk), ("running", "go_on", 0, "training")
    for may_edit in (True, False):
        old = Fragment("old", 1, state, fragments.time.monotonic() - 2)
        fragments.shelf.keep(key, may_edit, old)
    meanwhile: list[str | None] = []
    real = fragments.render_to_string

    def looked_at(template: str, *rest: Any) -> str:
        for may_edit in (True, False):
            found = fragments.shelf.find(key, may_edit, state, 0)
            meanwhile.append(found and found.html)
        return real(template, *rest)

    monkeypatch.setattr(fragments, "render_to_string", looked_at)
    moves_on(run, step=4)
    assert "4 of 10" in text_of(poll(editor, run, seen=1).content.decode())
    assert meanwhile == ["old"] * 4


def test_nothing_is_rendered_for_those_who_have_gone(
    lab: Lab, run: Run, renders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    poll(watcher(lab, "vera", "viewer"), run)
    monkeypatch.setattr(fragments, "STALE_SECONDS", 0.0)
    poll(watcher(lab, "ada"), run)
    assert len(renders) == 2


def test_a_role_that_changes_changes_what_is_shown_at_once(lab: Lab, run: Run) -> None:
    ada, grace = watcher(lab, "ada"), watcher(lab, "grace")
    poll(ada, run)
    Membership.objects.filter(user__username="grace").update(role="viewer")
    assert "Pause" not in text_of(poll(grace, run).content.decode())


@pytest.mark.parametrize("change", ["stranger", "signed out", "left", "inactive", "expired", "password"])
def test_whoever_may_not_look_gets_nothing_of_what_lies_ready(lab: Lab, run: Run, change: str) -> None:
    poll(watcher(lab, "ada"), run)
    grace = watcher(lab, "grace")
    assert poll(grace, run).status_code == 200
    person = User.objects.get(username="grace")
    match change:
        case "stranger":
            grace = Client()
            grace.force_login(lab.stranger)
        case "signed out":
            Session.objects.filter(user=person).delete()
        case "left":
            person.memberships.all().delete()
        case "inactive":
            User.objects.filter(pk=person.pk).update(is_active=False)
        case "expired":
            Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
        case "password":
            person.set_password("another pass phrase")
            person.save()
    answer = poll(grace, run)
    assert answer.status_code in {302, 404}
    assert "First try" not in answer.content.decode()
    assert points(grace, run).status_code in {302, 404}


def test_points_are_told_with_two_queries_to_all_who_may_see_the_run(
    lab: Lab,
    run: Run,
    django_assert_num_queries: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Metric.objects.create(run=run, series="loss", step=1, value=3.0)
    Metric.objects.create(run=run, series="loss", step=2, value=2.5)
    Run.objects.filter(pk=run.pk).update(attempt=2)
    told = {"attempt": 2, "series": {"loss": {"step": [2], "min": [2.5], "mean": [2.5], "max": [2.5]}}}
    for name, role in (("ada", "member"), ("vera", "viewer")):
        client = watcher(lab, name, role)
        with django_assert_num_queries(2):
            answer = points(client, run)
        assert answer.json() == told and "no-store" in answer["Cache-Control"]
        assert answer["Content-Length"] == str(len(answer.content))
    monkeypatch.setattr(watching, "row_of", lambda *asked: None)  # as where the kept connection was dead
    assert points(client, run).json() == told


def test_points_of_no_run_are_not_found(lab: Lab, run: Run) -> None:
    ada = watcher(lab, "ada")
    for pk in (str(run.pk + 1), "9" * 30):
        assert ada.get(f"/runs/{pk}/points/").status_code == 404
    assert ada.post(f"/runs/{run.pk}/points/").status_code in {403, 405}


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"status": "paused"}, "Go on"),
        ({"desired": "cancel"}, "Stopping …"),
        ({"phase": "packaging"}, "Packaging"),
    ],
)
def test_what_somebody_has_asked_for_shows_at_once(
    lab: Lab, run: Run, change: dict[str, str], shown: str
) -> None:
    ada = watcher(lab, "ada")
    poll(ada, run)
    moves_on(run, **change)
    answer = poll(ada, run, seen=1)
    assert answer["HX-PTag"] == f"{run.pk}-2" and shown in text_of(answer.content.decode())


def test_numbers_may_be_a_second_old_and_no_older(
    lab: Lab, run: Run, renders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = watcher(lab, "ada")
    poll(ada, run)
    moves_on(run, step=4)
    assert poll(ada, run, seen=1).status_code == 304, "what came since is not a second old"
    assert "3 of 10" in text_of(poll(watcher(lab, "grace"), run).content.decode())
    monkeypatch.setattr(fragments, "FRESH_SECONDS", 0.0)
    answer = poll(ada, run, seen=1)
    assert "4 of 10" in text_of(answer.content.decode()) and len(renders) == 2


@pytest.mark.parametrize("named", [True, False])
def test_what_somebody_may_do_goes_by_the_workspace_that_they_are_in(
    lab: Lab, run: Run, named: bool, django_assert_num_queries: Callable[[int], Any]
) -> None:
    """Of several the one they were in last, else the oldest, as on the page itself."""
    poll(watcher(lab, "ada"), run)
    grace = watcher(lab, "grace")
    other = Workspace.objects.create(name="Other", slug="other")
    person = User.objects.get(username="grace")
    Membership.objects.create(user=person, workspace=other, role="viewer")
    User.objects.filter(pk=person.pk).update(last_workspace=other if named else None)
    whole = "Pause" in text_of(grace.get(f"/runs/{run.pk}/").content.decode())
    polled = "Pause" in text_of(poll(grace, run).content.decode())
    assert whole == polled == (not named)
    with django_assert_num_queries(1):
        poll(grace, run)


def test_whoever_has_seen_something_newer_is_not_set_back(lab: Lab, run: Run) -> None:
    ada, grace = watcher(lab, "ada"), watcher(lab, "grace")
    poll(ada, run)
    moves_on(run, step=4)
    page = grace.get(f"/runs/{run.pk}/")  # loaded just now: version 2
    assert page["HX-PTag"] == f"{run.pk}-2"
    moves_on(run, step=5)
    assert "5 of 10" in text_of(poll(grace, run, seen=2).content.decode())


def test_a_name_with_markup_stays_text(lab: Lab, run: Run) -> None:
    Event.objects.create(run=run, kind="message", message="<script>alert(1)</script>")
    for name in ("ada", "grace"):
        assert "<script>alert" not in poll(watcher(lab, name), run).content.decode()


def test_the_whole_page_has_its_token_without_javascript(lab: Lab, run: Run) -> None:
    ada = watcher(lab, "ada")
    poll(ada, run)
    token = TOKEN.findall(ada.get(f"/runs/{run.pk}/").content.decode())[0]
    assert ada.post(f"/runs/{run.pk}/cancel/", {"csrfmiddlewaretoken": token}).status_code == 302


def test_a_fragment_that_asks_for_the_person_is_refused() -> None:
    template = engines["django"].from_string(
        "{% if request.may_edit %}{{ request.user.username }}{% endif %}"
    )
    with pytest.raises(PersonalFragment, match=r"request\.user"):
        template.render({"request": fragments.NobodysRequest(may_edit=True)})


def test_one_renders_while_the_others_get_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, key, state = Shelf(), ("runs_run", 1, "UTC"), ("running",)
    assert shelf.find(key, True, state, 0) is None
    shelf.keep(key, True, Fragment("one", 1, state, fragments.time.monotonic() - 2))
    answers: list[Any] = []
    for _ in range(4):  # the first is to render it again, the others do not wait for that
        thread = threading.Thread(target=lambda: answers.append(shelf.find(key, True, state, 0)))
        thread.start()
        thread.join()
    assert answers[0] is None and [each.html for each in answers[1:]] == ["one"] * 3
    assert shelf.find(key, True, ("paused",), 0) is None and shelf.find(key, True, state, 2) is None


def test_the_shelf_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MOST", 3)
    shelf = Shelf()
    for number in range(9):
        shelf.find(("runs_run", number, "UTC"), True, (), 0)
        shelf.keep(("runs_run", number, "UTC"), True, Fragment("", 1, (), fragments.time.monotonic()))
    kept = [number for number in range(9) if shelf.find(("runs_run", number, "UTC"), True, (), 0)]
    assert kept == [6, 7, 8]


def test_polls_without_a_token_cookie_go_the_usual_way(lab: Lab, run: Run) -> None:
    poll(watcher(lab, "ada"), run)
    grace = watcher(lab, "grace")
    grace.cookies.pop(settings.CSRF_COOKIE_NAME, None)
    answer = poll(grace, run)
    assert answer.status_code == 200 and TOKEN.findall(answer.content.decode())
    assert settings.CSRF_COOKIE_NAME in answer.cookies
