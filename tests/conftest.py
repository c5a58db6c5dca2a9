"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.conf import settings

# Pages are rendered without `collectstatic` having run.
settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"

# A slow hash protects people, not tests.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data for tests; they are skipped where it is absent, except in CI."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{SHARED_DATA} must be there in CI")
        pytest.skip(f"real data is not there: {SHARED_DATA}")
    return SHARED_DATA
