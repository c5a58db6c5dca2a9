"""`kill -9` of the web server while people launch runs: what it has said yes to is there once, and runs to its end."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import settled
from tests.faults.cluster import until
from tests.faults.conftest import MOMENTS
from tests.faults.fleet import Fleet
from tests.faults.kinds import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
PERSON = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
django.setup()
from webapp.accounts.models import ApiToken, Membership, User, Workspace
lab = Workspace.objects.get(slug="lab")
ada = User.objects.create_user("ada", last_workspace=lab)
Membership.objects.create(user=ada, workspace=lab, role="member")
print(ApiToken.issue(ada, lab, "launching")[1])
"""


@pytest.fixture(scope="module")
def fleet(homes: Callable[[], Path]) -> Iterator[Fleet]:
    made = Fleet(homes())
    try:
        made.begin()
        made.start_web()
        yield made
    finally:
        made.stop()


def test_what_the_web_server_has_said_yes_to_is_there_once(fleet: Fleet, chance: random.Random) -> None:
    fleet.ask(kind="scripted", settings={"steps": 3})
    script = fleet.home / "person.py"
    script.write_text(PERSON)
    token = fleet.manage(str(script)).strip()
    accepted: list[int] = []
    refused: list[OSError] = []
    over = threading.Event()

    def launch() -> None:
        body = json.dumps({"model": "tiny", "dataset": 1, "task": "text-classification", "method": "full"})
        address = f"http://127.0.0.1:{fleet.environment['TUNEBOARD_PORT']}/api/v1/runs"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        while not over.is_set():
            try:
                request = urllib.request.Request(address, body.encode(), headers)
                with urllib.request.urlopen(request, timeout=20) as answer:
                    accepted.append(json.loads(answer.read())["id"])
            except urllib.error.HTTPError as error:
                raise AssertionError(error.read()) from error
            except OSError as error:
                refused.append(error)
            time.sleep(0.25)

    launching = threading.Thread(target=launch)
    launching.start()
    try:
        for _ in range(MOMENTS):
            fleet.keep_busy(chance)
            before = len(accepted)
            until(lambda before=before: len(accepted) > before, 60)  # it is up
            time.sleep(chance.uniform(0, 2))
            FAULTS["web_killed"](fleet, chance)
    finally:
        over.set()
        launching.join(30)
    settled.check(fleet)
    assert accepted and refused, (accepted, refused[-3:], (fleet.home / "web.log").read_text()[-2000:])
    there = {row[0] for row in fleet.rows("SELECT id FROM runs_run")}
    assert set(accepted) <= there and len(set(accepted)) == len(accepted)
    # Whoever got no answer does not know: their run is there whole, with its story, or not at all.
    told = {row[0] for row in fleet.rows("SELECT run_id FROM runs_event WHERE kind = 'submitted'")}
    assert told == there
