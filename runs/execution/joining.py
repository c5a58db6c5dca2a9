"""How a host joins this deployment: the command to type there, with secrets left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings

HERE = re.compile(r"^(|localhost|127\.[0-9.]+|::1|0\.0\.0\.0|/.*)$")
HARMLESS = {"sslmode", "connect_timeout", "ssl_cert_reqs"}  # of a query; anything else may be a secret
DATABASE = "postgres://<user>:<password>@<database host>:5432/<database>"
BROKER = "redis://:<password>@<broker host>:6379/0"
STORAGE = "s3://<bucket>/<prefix>"


@dataclass(frozen=True)
class Joining:
    """The three settings as another host needs them, and what has to be changed before one can join."""

    settings: dict[str, str]
    problems: tuple[str, ...]

    @property
    def command(self) -> str:
        given = [f"{name}='{value}'" for name, value in self.settings.items()]
        return " \\\n  ".join([*given, "make worker"])

    @property
    def container(self) -> str:
        given = [f"-e {name}='{value}'" for name, value in self.settings.items()]
        parts = ["docker run -d --gpus all --shm-size 2g --restart unless-stopped", *given]
        return " \\\n  ".join([*parts, "tuneboard:latest python manage.py worker"])


def joining() -> Joining:
    """For this web server's own settings."""
    problems, given = [], {}
    for name, what, address, example in (
        ("DATABASE_URL", "The database", settings.DATABASE_URL, DATABASE),
        ("REDIS_URL", "The broker", settings.REDIS_URL, BROKER),
    ):
        if _is_here(address):
            problems.append(
                f"{what} of this deployment can be reached from this machine alone: set {name} to one of your own."
            )
            given[name] = example
        else:
            given[name] = without_secrets(address)
    if settings.STORAGE_URL.startswith("s3://"):
        given["STORAGE_URL"] = without_secrets(settings.STORAGE_URL)
        given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"] = "<key id>", "<secret key>"
        options = settings.STORAGES["default"].get("OPTIONS", {})
        if endpoint := options.get("endpoint_url"):
            given["AWS_ENDPOINT_URL"] = without_secrets(str(endpoint))
    elif Path(settings.STORAGE_URL) == settings.HOME / "storage":
        problems.append(
            "Storage is a folder of this machine: set STORAGE_URL to a bucket, or to a folder that every host sees under the same path."
        )
        given["STORAGE_URL"] = STORAGE
    else:
        given["STORAGE_URL"] = settings.STORAGE_URL
    return Joining(given, tuple(problems))


def without_secrets(address: str) -> str:
    """An address with placeholders for its password and for whatever stands behind a question mark."""
    parts = urlsplit(address)
    place = parts.hostname or ""
    place = f"[{place}]" if ":" in place else place
    place += f":{parts.port}" if parts.port else ""
    if parts.username or parts.password:
        place = f"{parts.username or ''}{':<password>' if parts.password else ''}@{place}"
    query = "&".join(
        item if item.partition("=")[0] in HARMLESS else f"{item.partition('=')[0]}=<…>"
        for item in parts.query.split("&")
        if item
    )
    return f"{parts.scheme}://{place}{parts.path}{f'?{query}' if query else ''}"


def _is_here(address: str) -> bool:
    """Whether other hosts could not reach it under this address: a socket, or a loopback interface."""
    parts = urlsplit(address)
    if parts.scheme in {"unix", "rediss+unix", "redis+socket"} or not address:
        return True
    if "host=" in parts.query:  # a socket's folder
        return True
    host = unquote(parts.netloc.rpartition("@")[2])
    return host.startswith("/") or bool(HERE.match(parts.hostname or ""))
