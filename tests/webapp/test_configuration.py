"""docs/configuration.md and the code name the same settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
READ = re.compile(r"(?:environ(?:\.get)?[\[(]|flag\(|listed\(|amount\()\s*f?\"([A-Z][A-Z0-9_]+)\"")
# Read by libraries, of which the page tells.
BY_LIBRARIES = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HF_HUB_OFFLINE"}
# Not ours to explain.
CONVENTIONS = {
    *("NO_COLOR", "DJANGO_SETTINGS_MODULE"),
    # which torchrun sets in the processes that it starts
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"),
}


def documented() -> set[str]:
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/configuration.md").read_text(), re.M)
    names = {name for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row)}
    return names


def read_by_the_code() -> set[str]:
    sources = [
        ROOT / "manage.py",
        *(p for top in ("webapp", "runs", "tools") for p in (ROOT / top).rglob("*.py")),
    ]
    return {name for source in sources for name in READ.findall(source.read_text())}


def read_by_containers() -> set[str]:
    return set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))


def test_every_setting_is_on_the_page_and_nothing_else_is() -> None:
    read = read_by_the_code() - CONVENTIONS
    assert len(read) > 20
    explained = read | BY_LIBRARIES | read_by_containers()
    mentioned = (ROOT / "docs/configuration.md").read_text()
    assert {name for name in explained if f"`{name}`" not in mentioned} == set()
    assert documented() - explained == set()


def test_containers_are_given_settings_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for service in ("prepare", "web", "worker", "dispatcher"):
        assert set(compose["services"][service]["environment"]) <= documented()


def test_what_the_containers_file_reads_is_explained() -> None:
    used = read_by_containers()
    assert {"POSTGRES_PASSWORD", "VALKEY_PASSWORD", "SECRET_KEY"} <= used <= documented()


# (variable, what is set, where it arrives, the default there): numbers stand on the page as well
NUMBERS = [
    ("TUNEBOARD_PORT", "9001", "s.PORT", 8000),
    ("TUNEBOARD_UPLOAD_MAX_BYTES", "1000", "s.UPLOAD_MAX_BYTES", 21474836480),
    ("TUNEBOARD_ARCHIVE_MAX_BYTES", "2000", "s.DATASET_LIMITS.archive_bytes", 107374182400),
    ("TUNEBOARD_ARCHIVE_MAX_RATIO", "7", "s.DATASET_LIMITS.archive_ratio", 200),
    ("TUNEBOARD_UPLOAD_HOURS", "1.5", "s.UPLOAD_HOURS", 24),
    ("TUNEBOARD_WORKSPACE_QUOTA_BYTES", "2000", "s.WORKSPACE_QUOTA_BYTES", 0),
    ("TUNEBOARD_RUN_TIME_LIMIT_SECONDS", "90.5", "s.RUN_TIME_LIMIT_SECONDS", 0),
    ("TUNEBOARD_MAX_ATTEMPTS", "7", "s.MAX_ATTEMPTS", 3),
    ("TUNEBOARD_STOP_GRACE_SECONDS", "61", "s.STOP_GRACE_SECONDS", 60),
    ("TUNEBOARD_LEASE_SECONDS", "62", "s.LEASE_SECONDS", 60),
    ("TUNEBOARD_HEARTBEAT_SECONDS", "11", "s.HEARTBEAT_SECONDS", 10),
    ("TUNEBOARD_DISPATCH_SECONDS", "0.5", "s.DISPATCH_SECONDS", 5),
    ("TUNEBOARD_RESERVE_SECONDS", "30", "s.RESERVE_SECONDS", 300),
    ("TUNEBOARD_CHECKPOINT_DAYS", "9", "s.CHECKPOINT_DAYS", 30),
    ("TUNEBOARD_ORPHAN_HOURS", "2.5", "s.ORPHAN_HOURS", 24),
    ("TUNEBOARD_CACHE_MAX_BYTES", "5000", "s.CACHE_MAX_BYTES", 0),
    ("TUNEBOARD_SAMPLE_SECONDS", "2", "s.SAMPLE_SECONDS", 5),
    ("TUNEBOARD_SAMPLES_KEEP_HOURS", "48", "s.SAMPLES_KEEP_HOURS", 24),
    ("TUNEBOARD_COST_PER_HOUR", "2.5", "s.COST_PER_HOUR", 0),
    ("TUNEBOARD_STALL_MINUTES", "20", "s.STALL_MINUTES", 15),
    ("TUNEBOARD_STALL_PHASE_MINUTES", "90", "s.STALL_PHASE_MINUTES", 60),
]
TEXTS = [
    ("DATABASE_URL", "postgres://a:b@db.example:5433/x", "s.DATABASES['default']['HOST']", "db.example"),
    ("REDIS_URL", "redis://:b@broker.example:6379/0", "s.CELERY_BROKER_URL", "redis://:b@broker.example:6379/0"),
    ("AWS_ENDPOINT_URL", "http://minio:9000", "s.storage_backend('s3://b')['OPTIONS']['endpoint_url']", "http://minio:9000"),
    ("TUNEBOARD_BIND", "0.0.0.0", "s.BIND", "0.0.0.0"),
    ("TUNEBOARD_HOSTS", "one.example, two.example", "s.ALLOWED_HOSTS[-2:]", "['one.example', 'two.example']"),
    ("TUNEBOARD_DEBUG", "1", "s.DEBUG", "True"),
    ("TUNEBOARD_LOG_LEVEL", "ERROR", "s.LOGGING['root']['level']", "ERROR"),
    ("TZ", "Europe/Berlin", "s.TIME_ZONE", "Europe/Berlin"),
    ("TUNEBOARD_SLOTS", "4", "s.WORKER_SLOTS", "4"),
    ("TUNEBOARD_WORKER_ADDRESS", "10.0.0.7", "s.WORKER_ADDRESS", "10.0.0.7"),
    ("TUNEBOARD_TRAINER_COMMAND", "train 'a b'", "s.TRAINER_COMMAND", "['train', 'a b']"),
    ("TUNEBOARD_CURRENCY", "€", "s.CURRENCY", "€"),
    ("TUNEBOARD_REFUSE_OTHER_VERSIONS", "1", "s.REFUSE_OTHER_VERSIONS", "True"),
    ("SECRET_KEY_FALLBACKS", "one, two", "s.SECRET_KEY_FALLBACKS", "['one', 'two']"),
    ("TUNEBOARD_SMTP_URL", "smtps://me:p%40ss@mail.example", "s.EMAIL_HOST, s.EMAIL_PORT, s.EMAIL_HOST_USER, s.EMAIL_HOST_PASSWORD, s.EMAIL_USE_SSL, s.EMAIL_USE_TLS", "mail.example\n465\nme\np@ss\nTrue\nFalse"),
    ("TUNEBOARD_MAIL_FROM", "runs@lab.example", "s.DEFAULT_FROM_EMAIL", "runs@lab.example"),
    ("TUNEBOARD_ALLOW_PRIVATE_ADDRESSES", "10.1.2.3/8, ::1", "s.ALLOWED_PRIVATE_NETWORKS", "[IPv4Network('10.0.0.0/8'), IPv6Network('::1/128')]"),
    ("HF_ENDPOINT", "https://hub.example/", "s.HF_ENDPOINT", "https://hub.example"),
]  # fmt: skip


def test_each_variable_arrives_and_numbers_have_the_default_of_the_page(tmp_path: Path) -> None:
    rows = dict(
        re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", (ROOT / "docs/configuration.md").read_text(), re.M)
    )
    asked = ", ".join(expression for _, _, expression, _ in NUMBERS)
    found = [float(number) for number in settings_with(tmp_path, f"*[{asked}]").split()]
    assert found == [default for *_, default in NUMBERS]
    for variable, _, _, default in NUMBERS:
        assert f"`{default}`" in rows[variable], variable
    given = {variable: value for variable, value, *_ in NUMBERS}
    changed = [float(number) for number in settings_with(tmp_path, f"*[{asked}]", **given).split()]
    assert changed == [float(value) for _, value, *_ in NUMBERS]

    asked = ", ".join(expression for _, _, expression, _ in TEXTS)
    given = {variable: value for variable, value, *_ in TEXTS}
    said = settings_with(tmp_path, f"*[{asked}], sep='\\n'", **given).splitlines()
    assert said == [line for *_, expected in TEXTS for line in expected.splitlines()]


def settings_with(tmp_path: Path, expression: str, **environment: str) -> str:
    """What `webapp.settings` makes of an environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", f"import webapp.settings as s; print({expression})"],
        cwd=ROOT,
        env={**kept, "TUNEBOARD_HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )
    return (done.stdout + done.stderr).strip()


def test_an_address_with_tls_makes_cookies_secure(tmp_path: Path) -> None:
    asked = "s.SESSION_COOKIE_SECURE, s.CSRF_TRUSTED_ORIGINS, 'tune.example' in s.ALLOWED_HOSTS"
    found = settings_with(tmp_path, asked, TUNEBOARD_URL="https://tune.example/")
    assert found == "True ['https://tune.example'] True"
    assert settings_with(tmp_path, "s.SESSION_COOKIE_SECURE") == "False"


def test_the_signing_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = settings_with(tmp_path, "s.SECRET_KEY")
    assert len(first) > 40 and settings_with(tmp_path, "s.SECRET_KEY") == first
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0
    assert settings_with(tmp_path, "s.SECRET_KEY", SECRET_KEY="given") == "given"


@pytest.mark.parametrize(
    ("url", "backend"),
    [("s3://bucket/some/prefix", "Bucket"), ("/srv/files", "FileSystemStorage")],
)
def test_storage_is_a_folder_or_a_bucket(tmp_path: Path, url: str, backend: str) -> None:
    assert backend in settings_with(tmp_path, "s.STORAGES['default']", STORAGE_URL=url)


def test_storage_of_another_kind_says_what_is_possible(tmp_path: Path) -> None:
    said = settings_with(tmp_path, "0", STORAGE_URL="ftp://host/x")
    assert "STORAGE_URL is a folder or s3://bucket/prefix" in said


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_to_type_or_follow_is_there(page: Path) -> None:
    text = page.read_text()
    commands = set(re.findall(r"manage\.py\s+([a-z_]+)", text))
    assert commands <= set(get_commands())
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^ {4}|`)make ([a-z]+)", text, re.M)) <= targets
    links = re.findall(r"(?<!!)\[[^\]]+\]\(([^)#]+)[^)]*\)", text)  # pictures come of the browser's tests
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("smtp://mail.example", "mail.example 25 False False"),
        ("smtp+starttls://mail.example", "mail.example 587 False True"),
        ("smtps://mail.example:2465", "mail.example 2465 True False"),
        ("mail.example", "TUNEBOARD_SMTP_URL looks like smtp+starttls://user:password@mail.example:587."),
        (
            "http://mail.example",
            "TUNEBOARD_SMTP_URL looks like smtp+starttls://user:password@mail.example:587.",
        ),
    ],
)
def test_the_mail_servers_address_says_how_it_is_spoken_to(tmp_path: Path, url: str, reached: str) -> None:
    asked = "s.EMAIL_HOST, s.EMAIL_PORT, s.EMAIL_USE_SSL, s.EMAIL_USE_TLS"
    assert settings_with(tmp_path, asked, TUNEBOARD_SMTP_URL=url) == reached


def test_a_network_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    said = settings_with(tmp_path, "0", TUNEBOARD_ALLOW_PRIVATE_ADDRESSES="home")
    assert said.startswith("TUNEBOARD_ALLOW_PRIVATE_ADDRESSES lists networks such as 10.0.0.0/8: 'home'")


def test_a_number_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    said = settings_with(tmp_path, "0", TUNEBOARD_PORT="eighty")
    assert said == "TUNEBOARD_PORT has to be a number, not 'eighty'; see docs/configuration.md."
