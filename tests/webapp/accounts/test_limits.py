"""What a workspace may take of the workers: site administrators set it, members see it, others do neither."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.runs.conftest import text_of
from webapp.accounts.models import Membership, User, Workspace
from webapp.accounts.people import create_user

URL = "/accounts/workspaces/"


@pytest.fixture
def lab(db: None) -> Workspace:
    return Workspace.objects.create(name="Lab <b>", slug="lab")


@pytest.fixture
def root(lab: Workspace) -> Client:
    client = Client()
    client.force_login(create_user("root", superuser=True))
    return client


def saved(client: Client, place: Workspace, **values: str) -> int:
    data = {"max_concurrent_runs": "", "gpu_hours_a_day": "", "queue_weight": "1", **values}
    prefixed = {f"w{place.pk}-{name}": value for name, value in data.items()}
    status = client.post(f"{URL}{place.pk}/", prefixed).status_code
    place.refresh_from_db()
    return status


def test_an_administrator_sees_every_workspace_and_sets_its_limits(root: Client, lab: Workspace) -> None:
    page = root.get(URL).content.decode()
    assert "Lab &lt;b&gt;" in page and "<b>" not in page
    assert saved(root, lab, max_concurrent_runs="3", gpu_hours_a_day="12.5", queue_weight="2") == 302
    assert (lab.max_concurrent_runs, lab.gpu_hours_a_day, lab.queue_weight) == (3, 12.5, 2)
    assert saved(root, lab) == 302
    assert (lab.max_concurrent_runs, lab.gpu_hours_a_day, lab.queue_weight) == (None, None, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrent_runs", "-1"),
        ("gpu_hours_a_day", "-1"),
        ("queue_weight", "0"),
        ("queue_weight", "nan"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_beside_its_field(
    root: Client, lab: Workspace, name: str, value: str
) -> None:
    assert saved(root, lab, **{name: value}) == 422
    assert (lab.max_concurrent_runs, lab.gpu_hours_a_day, lab.queue_weight) == (None, None, 1)


def test_members_see_the_limits_of_their_workspace_and_no_more(lab: Workspace) -> None:
    member = User.objects.create_user("anna")
    Membership.objects.create(user=member, workspace=lab, role=Membership.Role.OWNER)
    Workspace.objects.filter(pk=lab.pk).update(max_concurrent_runs=3, gpu_hours_a_day=8)
    client = Client()
    client.force_login(member)
    page = client.get("/accounts/workspace/").content.decode()
    said = text_of(page)
    assert "0 running, at most 3" in said and "0.0 used, of 8" in said and "weight 1" in said
    assert f'href="{URL}"' not in page
    assert client.get(URL).status_code == 403
    assert saved(client, lab, max_concurrent_runs="99") == 403
    assert lab.max_concurrent_runs == 3
