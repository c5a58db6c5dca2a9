"""Datasets as people see them in the browser."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from tests.webapp.datasets.conftest import Inspected, stored_files
from webapp.accounts.models import Membership, User, Workspace
from webapp.datasets import samples
from webapp.datasets.inspection import run_inspection
from webapp.datasets.models import Dataset

CSV = b"text,label\n" + b"".join(f"sentence number {n},{'ab'[n % 2]}\n".encode() for n in range(30))


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def page(client: Client, name: str, *arguments: object, **headers: str) -> str:
    response = client.get(reverse(f"datasets:{name}", args=arguments), headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def csv(name: str = "reviews.csv", data: bytes = CSV) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


@pytest.mark.django_db(transaction=True)
def test_an_upload_leads_to_its_page_and_wakes_a_worker(client: Client, no_messages: list[int]) -> None:
    response = client.post(reverse("datasets:upload"), {"file": [csv()], "name": "Reviews"})
    dataset = Dataset.objects.get()
    assert response.url == reverse("datasets:detail", args=[dataset.pk])  # type: ignore[attr-defined]
    assert no_messages == [dataset.pk]
    assert "Waiting for a worker" in page(client, "detail", dataset.pk)
    assert stored_files() == [f"datasets/{dataset.pk}/uploads/0.csv"]


def test_an_upload_without_a_file_says_so_beside_the_field(client: Client) -> None:
    response = client.post(reverse("datasets:upload"), {"name": "Reviews"})
    assert response.status_code == 422
    assert "Choose at least one file" in response.content.decode()
    assert not Dataset.objects.exists()


def test_an_upload_over_the_limit_leaves_nothing(client: Client, settings: object) -> None:
    settings.UPLOAD_MAX_BYTES = 100  # type: ignore[attr-defined]
    response = client.post(reverse("datasets:upload"), {"file": [csv()]})
    assert response.status_code == 422
    assert "over the limit" in response.content.decode()
    assert stored_files() == []


def test_odd_file_names_are_shown_and_never_used_as_paths(client: Client) -> None:
    names = [
        "../../etc/passwd.csv",
        "a\"b'c<script>.csv",
        "x\u202evsc.exe.csv",
        "n" * 300 + ".csv",
        "a\nb.csv",
    ]
    for name in names:
        client.post(reverse("datasets:upload"), {"file": [csv(name)]})
    assert Dataset.objects.count() == len(names)
    for dataset in Dataset.objects.all():
        file = dataset.files.get()
        assert file.storage_key == f"datasets/{dataset.pk}/uploads/0.csv"
        assert not {"/", "\n", "\u202e"} & set(file.name)
        assert len(file.name) <= 200
    assert "<script>" not in page(client, "list").split("<main", 1)[1].replace("<script type", "")


def test_the_page_of_a_ready_dataset_shows_what_is_in_it(client: Client, inspected: Inspected) -> None:
    html = page(client, "detail", inspected(("reviews.csv", CSV)).pk)
    for text in ("sentence number 0", "Columns", "reviews.csv", "10% of the rows each drawn", "seed 42"):
        assert text in html
    assert "every 1s" not in html


def test_what_people_wrote_is_escaped(client: Client, inspected: Inspected) -> None:
    bad = CSV.replace(b"text,", b"<img src=x onerror=alert(1)>,").replace(b"sentence", b"<b>bold</b>")
    html = page(client, "detail", inspected(("<i>x</i>.csv", bad)).pk)
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "<img src=x" not in html
    assert "<b>bold" not in html


def test_a_refused_file_says_what_is_wrong_where_and_what_to_do(client: Client, inspected: Inspected) -> None:
    dataset = inspected(("bad.csv", CSV + b'"open,a\n' + CSV))
    html = page(client, "detail", dataset.pk)
    for text in ("This cannot be used yet", "Line 32", "bad.csv, line 32", "Close the quote"):
        assert text in html
    assert stored_files() == []


def test_a_poll_costs_nothing_while_nothing_changes_and_ends_with_the_inspection(
    client: Client, workspace: Workspace, user: User
) -> None:
    dataset = samples.use_sample("handwritten-digits", workspace, user)
    address = reverse("datasets:progress", args=[dataset.pk])
    first = client.get(address)
    assert "every 1s" in first.content.decode() and "HX-Refresh" not in first
    assert client.get(address, headers={"HX-PTag": first["HX-PTag"]}).status_code == 304
    run_inspection(dataset.pk, "test")
    last = client.get(address, headers={"HX-PTag": first["HX-PTag"]})
    assert last.status_code == 200
    assert "hx-trigger" not in last.content.decode()
    assert last["HX-Refresh"] == "true"  # the page has more now: downloads, files to add


def test_pictures_are_served_as_pictures_and_nothing_else(
    client: Client, workspace: Workspace, user: User
) -> None:
    dataset = samples.use_sample("handwritten-digits", workspace, user)
    run_inspection(dataset.pk, "test")
    response = client.get(reverse("datasets:picture", args=[dataset.pk, "0-0"]))
    assert response["Content-Type"] == "image/png"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]
    assert client.get(reverse("datasets:picture", args=[dataset.pk, "99-0"])).status_code == 404


def test_the_list_can_be_searched_and_filtered_by_its_address(client: Client, inspected: Inspected) -> None:
    inspected(("good.csv", CSV))
    inspected(("broken.csv", b""))
    address = reverse("datasets:list")
    assert "broken" not in client.get(address, {"q": "good"}).content.decode().split("samples-title")[0]
    assert "good.csv" not in client.get(address, {"status": "invalid"}).content.decode()
    assert "No dataset matches" in client.get(address, {"q": "zzz"}).content.decode()


def test_an_empty_list_leads_on_to_upload_and_samples(client: Client) -> None:
    html = page(client, "list")
    assert "No datasets yet" in html
    assert reverse("datasets:upload") in html
    assert reverse("datasets:use_sample", args=["which-language"]) in html


def test_a_sample_is_made_once_a_workspace(client: Client) -> None:
    for _ in range(2):
        client.post(reverse("datasets:use_sample", args=["which-language"]))
    assert Dataset.objects.filter(sample="which-language").count() == 1
    assert client.post(reverse("datasets:use_sample", args=["nothing"])).status_code == 404


def test_renaming_and_deleting(client: Client, inspected: Inspected) -> None:
    dataset = inspected(("reviews.csv", CSV))
    client.post(reverse("datasets:rename", args=[dataset.pk]), {"name": "Stars", "description": "From shops"})
    assert "Stars" in page(client, "detail", dataset.pk)
    assert client.post(reverse("datasets:delete", args=[dataset.pk])).status_code == 302
    assert not Dataset.objects.exists()


@pytest.mark.parametrize("route", ["upload", "use_sample", "rename", "delete"])
def test_a_viewer_changes_nothing(route: str, client: Client, viewer: User, inspected: Inspected) -> None:
    dataset = inspected(("reviews.csv", CSV))
    client.force_login(viewer)
    arguments = {"upload": [], "use_sample": ["which-language"]}.get(route, [dataset.pk])
    response = client.post(reverse(f"datasets:{route}", args=arguments), {"name": "x", "file": [csv()]})
    assert response.status_code == 403
    assert list(Dataset.objects.values_list("name", flat=True)) == ["reviews"]
    assert reverse("datasets:upload") not in page(client, "list")


@pytest.mark.parametrize("route", ["detail", "progress", "rename", "delete"])
def test_another_workspaces_dataset_is_not_there(route: str, client: Client, inspected: Inspected) -> None:
    dataset = inspected(("reviews.csv", CSV))
    stranger = User.objects.create_user("eve")
    other = Workspace.objects.create(name="Other", slug="other")
    Membership.objects.create(user=stranger, workspace=other, role=Membership.Role.OWNER)
    client.force_login(stranger)
    address = reverse(f"datasets:{route}", args=[dataset.pk])
    send = client.post if route == "delete" else client.get
    assert send(address).status_code == 404
    assert Dataset.objects.filter(pk=dataset.pk).exists()


@pytest.mark.django_db
def test_a_strangers_upload_never_reaches_the_disk() -> None:
    Client().post(reverse("datasets:upload"), {"file": [csv()]})
    assert stored_files() == []


def test_a_dataset_that_suits_no_task_leaves_the_list_whole(client: Client, inspected: Inspected) -> None:
    rows = b"a,b\n" + b"".join(f"{n}.5,{n * n}.25\n".encode() for n in range(40))
    dataset = inspected(("numbers.csv", rows))
    assert (dataset.status, dataset.version and dataset.version.suggested) == ("ready", {})
    page = client.get(reverse("datasets:list"))
    assert page.status_code == 200 and "numbers" in page.content.decode()
    assert client.get(reverse("datasets:detail", args=[dataset.pk])).status_code == 200
