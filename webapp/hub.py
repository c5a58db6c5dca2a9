"""Asking a Hugging Face hub (HF_ENDPOINT): what the catalogue and datasets do in the same way."""

from __future__ import annotations

import httpx2
from django.conf import settings
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

TIMEOUT_SECONDS = 4.0
# The last three: an answer that is not a hub's, such as the page of a proxy.
FAILURES = (
    *(HfHubHTTPError, httpx2.HTTPError, OfflineModeIsEnabled, OSError, ValueError),
    *(KeyError, TypeError, AttributeError),
)


def api() -> HfApi:
    """The hub of this installation."""
    return HfApi(endpoint=settings.HF_ENDPOINT, library_name="tuneboard")


def short(error: Exception) -> str:
    """The first line of what went wrong."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
