"""`manage.py doctor`: what is wrong with this deployment, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import shutil
import smtplib
import time
import uuid
from collections.abc import Callable
from typing import Any

import pynvml
import redis
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.mail import get_connection
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import DatabaseError

from runs.execution import admission, hosts, telemetry
from runs.models import Worker
from webapp.catalog.starters import all_starters

LARGEST_SKEW = 5.0  # seconds; leases are 60
FEWEST_FREE_BYTES = 5 * 2**30


class Wrong(Exception):
    """A check that failed: what is wrong, and what to do."""


def database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0]
    except DatabaseError as error:
        raise Wrong(
            f"no answer: {str(error).strip()}. Is `manage.py up` running on this home, or is DATABASE_URL right?"
        ) from error
    return f"Postgres {version}"


def migrations() -> str:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        raise Wrong(f"{len(waiting)} not applied. Run `manage.py prepare`.")
    return "all applied"


def clock() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        skew = time.time() - float(cursor.fetchone()[0])
    if abs(skew) > LARGEST_SKEW:
        raise Wrong(f"{abs(skew):.0f} s away from the database's. Have both hosts keep time by NTP.")
    return f"{abs(skew):.1f} s away from the database's"


def broker() -> str:
    try:
        client = redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=3)
        info: Any = client.info("server")
    except ValueError as error:  # an address of no known form
        raise Wrong(f"REDIS_URL cannot be used: {error}") from error
    except redis.RedisError as error:
        raise Wrong(f"no answer: {error}. Runs are still queued, and start once it is back.") from error
    return f"{info.get('server_name', 'redis').capitalize()} {info.get('valkey_version') or info['redis_version']}"


def storage() -> str:
    name = f"doctor/{uuid.uuid4().hex}"
    try:
        saved = default_storage.save(name, ContentFile(b"tuneboard"))
        with default_storage.open(saved) as file:
            same = file.read() == b"tuneboard"
        default_storage.delete(saved)
    except Exception as error:  # each backend has exceptions of its own, and any of them is the finding
        raise Wrong(f"{settings.STORAGE_URL} cannot be written: {error}") from error
    if not same:
        raise Wrong(f"{settings.STORAGE_URL} gives back other bytes than were written.")
    return f"{settings.STORAGE_URL} can be written and read"


def disk() -> str:
    try:
        free = shutil.disk_usage(settings.HOME).free
    except OSError as error:
        raise Wrong(
            f"{settings.HOME} cannot be used ({error.strerror}). Make it, or set TUNEBOARD_HOME."
        ) from error
    if free < FEWEST_FREE_BYTES:
        raise Wrong(f"{free / 2**30:.1f} GB free under {settings.HOME}. Runs need room for checkpoints.")
    return f"{free / 2**30:.0f} GB free under {settings.HOME}"


def training() -> str:
    try:
        found = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    except importlib.metadata.PackageNotFoundError as error:
        raise Wrong(f"{error.name} is not installed: this host can serve pages but not train.") from error
    return ", ".join(f"{name} {version}" for name, version in found.items())


def devices() -> str:
    try:
        if not telemetry.open_nvml():
            return "no NVIDIA GPU: this host trains on its CPU"
        telemetry.driver_versions(strict=True)
    except pynvml.NVMLError as error:
        raise Wrong(f"NVIDIA's driver fails: {error}. See whether nvidia-smi works.") from error
    found = telemetry.gpus()
    lost = [
        f"GPU {device['index']}: {device['error']}"
        for device in telemetry.sample(found)["devices"]
        if device.get("error")
    ]
    if lost:
        raise Wrong(f"{'; '.join(lost)}. A restart of the host may bring it back.")
    names = "; ".join(f"{device['name']}, {device['memory_bytes'] / 2**30:.0f} GiB" for device in found)
    return names or "no GPU that CUDA_VISIBLE_DEVICES lets a worker use"


def versions() -> str:
    """Workers that are online run what this host runs."""
    online = [worker for worker in Worker.objects.order_by("name") if worker.is_online]
    mine = hosts.own_version()
    others = [
        f"{worker.name} runs {admission.own_version_of(worker)}"
        for worker in online
        if not hosts.same_version(mine, admission.own_version_of(worker))
    ]
    if others:
        refused = " (and is refused)" if settings.REFUSE_OTHER_VERSIONS else ""
        raise Wrong(f"this host runs {mine}, but {'; '.join(others)}{refused}. Upgrade one of them.")
    web = admission.deployed()
    if web is not None and not hosts.same_version(mine, web.version):
        raise Wrong(f"this host runs {mine}, the web server {web.version}. Upgrade one of them.")
    return f"{mine}, as {len(online)} worker{'s' if len(online) != 1 else ''} online"


def starters() -> str:
    missing = [starter.distribution for starter in all_starters() if not starter.is_installed]
    if missing:
        raise Wrong(f"not installed: {', '.join(missing)}. `make run` installs them.")
    return f"{len(all_starters())} installed"


def mail() -> str:
    if not settings.SMTP_URL:
        return "not set up: nobody can be told by e-mail (TUNEBOARD_SMTP_URL)"
    server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    try:
        opened: Any = get_connection("django.core.mail.backends.smtp.EmailBackend", timeout=5)
        opened.open()
        opened.close()
    except (smtplib.SMTPException, OSError) as error:
        raise Wrong(f"{server} does not take mail: {error}. Is TUNEBOARD_SMTP_URL right?") from error
    return f"{server} takes mail"


CHECKS: dict[str, Callable[[], str]] = {
    "database": database,
    "migrations": migrations,
    "clock": clock,
    "broker": broker,
    "storage": storage,
    "disk": disk,
    "training": training,
    "devices": devices,
    "versions": versions,
    "starters": starters,
    "mail": mail,
}


class Command(BaseCommand):
    help = "Looks at everything that Tuneboard needs and says what is wrong. Exits with 1 if something is."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        failed = 0
        for name, check in CHECKS.items():
            try:
                found = check()
            except Wrong as wrong:
                failed += 1
                self.stdout.write(self.style.ERROR(f"wrong  {name:<11}{wrong}"))
            except DatabaseError:
                failed += 1
                self.stdout.write(self.style.ERROR(f"wrong  {name:<11}needs the database"))
            else:
                self.stdout.write(f"ok     {name:<11}{found}")
        if failed:
            raise SystemExit(1)
