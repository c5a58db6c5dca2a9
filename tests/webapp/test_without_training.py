"""The web side runs where nothing of the training side is installed, and the other way round."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAINING = (
    "torch", "torchvision", "transformers", "peft", "trl", "timm", "datasets", "sklearn", "accelerate",
    "sentence_transformers", "torchmetrics", "safetensors", "gguf",
)  # fmt: skip
WEB = ("django", "celery", "redis", "psycopg", "ninja", "webapp")
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
# The pages of a newcomer, in a test database of their own.
PAGES = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
import django
django.setup()
from django.conf import settings
settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = "test_without_training"
from django.core.management import call_command
from django.test.utils import setup_databases, setup_test_environment, teardown_databases
import webapp.urls
call_command("check")
call_command("makemigrations", "--check", "--dry-run", verbosity=0)
setup_test_environment()
old = setup_databases(verbosity=0, interactive=False, aliases={"default"})
try:
    from django.test import Client
    from webapp.accounts.models import ApiToken
    from webapp.accounts.people import create_user
    from webapp.catalog.sync import sync_starters
    sync_starters()
    user = create_user("ada")
    browser = Client()
    browser.force_login(user)
    for path in ("/", "/models/", "/models/all-minilm-l6-v2/", "/datasets/", "/datasets/upload/", "/runs/",
                 "/runs/new/?model=all-minilm-l6-v2", "/hosts/", "/accounts/profile/", "/api/docs/"):
        answer = browser.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
    token = ApiToken.issue(user, user.memberships.get().workspace, "t")[1]
    answer = Client(headers={"Authorization": f"Bearer {token}"}).get("/api/v1/tasks")
    assert answer.status_code == 200, answer.content
    print("TASKS", len(answer.json()))
finally:
    teardown_databases(old, verbosity=0)
import webapp.celery, runs.execution.worker, runs.execution.dispatch
"""
# Nothing of it came in by another way, and the hook does keep things out.
NONE_OF_IT = """
here = {{name.split(".")[0] for name in sys.modules}} & {absent!r}
assert not here, here
try:
    __import__({first!r})
except ImportError:
    print("KEPT OUT")
"""
TRAINER = """
import importlib, pkgutil
import runs.training.__main__
from runs.training.tasks import all_tasks
for module in pkgutil.walk_packages(runs.training.__path__, "runs.training."):
    importlib.import_module(module.name)
runs.training.__main__.warm_up()
print("TASKS", len(all_tasks()))
"""


def say(absent: tuple[str, ...], program: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT.format(absent=set(absent))
            + program
            + NONE_OF_IT.format(absent=set(absent), first=absent[0]),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("KEPT OUT\n")
    return done.stdout


def test_pages_and_api_need_nothing_of_the_training_side() -> None:
    assert int(say(TRAINING, PAGES).split("TASKS ")[1].split()[0]) >= 3


@pytest.mark.slow
def test_the_training_program_needs_nothing_of_the_web_side() -> None:
    assert int(say(WEB, TRAINER).split("TASKS ")[1].split()[0]) >= 3
