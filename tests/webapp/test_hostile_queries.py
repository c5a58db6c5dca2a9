"""What stands behind the question mark of an address is anybody's: no page fails for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from tests.webapp.test_strangers import PUBLIC, addresses, body_of
from tests.webapp.theirs import Theirs, make_theirs

HOSTILE = ("%00", "%ED%A0%80", "-1", "9" * 30, "1e400", "nan", "%27%22%3C%5B%5D", "x" * 5000)
READ = re.compile(r'\bGET(?:\.get|\.getlist)?[(\[]"([a-z_]+)"|(?:GET|said|asked|query)\.get\("([a-z_]+)"')


@pytest.fixture
def theirs(db: None, tmp_path: Path) -> Theirs:
    return make_theirs(tmp_path)


def parameters() -> list[str]:
    """Whatever any view reads."""
    found = set()
    for folder in ("webapp", "runs"):
        for path in (Path(settings.ROOT) / folder).rglob("*.py"):
            found |= {one or other for one, other in READ.findall(path.read_text())}
    return sorted(found)


def test_no_page_fails_whatever_is_asked_of_it(theirs: Theirs) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(theirs.owner)
    names = parameters()
    assert {"version", "q", "page", "model", "split", "start"} <= set(names)
    failed, tried = [], 0
    for address in addresses():
        if address.name in PUBLIC or address.name == "accounts:sign_out":
            continue
        path = theirs.path(address.route)
        queries = ["&".join(f"{name}={value}" for name in names) for value in HOSTILE for _ in (0, 1)]
        queries += [f"{name}=%00" for name in names]
        for number, query in enumerate(queries):
            # By turns as a page and as a fragment; what all parameters have, both.
            headers = {"HX-Request": "true"} if number % 2 else {}
            answer = client.get(f"{path}?{query}", headers=headers)
            body_of(answer)  # what is streamed is read, or its cursor would stay open
            tried += 1
            if answer.status_code >= 500:
                failed.append((address.name, query[:60], answer.status_code))
    assert not failed, failed
    assert tried > 1000


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/models/hub/add/", ["repository"]),
        ("/models/folder/add/", ["path", "name"]),
        ("/accounts/workspace/switch/", ["workspace"]),
        ("/datasets/{dataset}/tokens/count/", ["model"]),
    ],
)
@pytest.mark.parametrize("value", ["\0", "a\0b", "../" * 2000, "\u202e"])
def test_no_form_fails_for_a_text_that_no_row_can_hold(
    theirs: Theirs, path: str, names: list[str], value: str
) -> None:
    theirs.owner.is_superuser = True
    theirs.owner.save()
    client = Client(raise_request_exception=False)
    client.force_login(theirs.owner)
    answer = client.post(path.format(dataset=theirs.dataset.pk), dict.fromkeys(names, value))
    assert answer.status_code < 500
    assert answer.status_code in {302, 404, 422}
