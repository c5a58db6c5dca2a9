"""Secrets that have to be read again (webhook keys, addresses with tokens in them), encrypted at rest.

Fernet (AES-128-CBC with HMAC-SHA256) under a key that HKDF derives from SECRET_KEY, so a stolen database
or backup does not hold them. To change SECRET_KEY, keep the old one in SECRET_KEY_FALLBACKS, run
`manage.py reseal`, then drop it (docs/configuration.md). Secrets that need not be read again, such as
API tokens, are kept as digests instead.
"""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

PURPOSE = b"tuneboard secrets at rest, 1"  # keeps this key apart from every other use of SECRET_KEY


class Unreadable(Exception):
    """It was encrypted under a SECRET_KEY that this process does not know."""


def _fernet(secret_key: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def _keys() -> MultiFernet:
    return MultiFernet([_fernet(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def seal(text: str) -> str:
    """Encrypt under the newest key; each call gives another text."""
    return _keys().encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """What was sealed; raises Unreadable where its key is not known here, or it was tampered with."""
    try:
        return _keys().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Unreadable(
            "It was encrypted under another SECRET_KEY. Put the old key into SECRET_KEY_FALLBACKS, or enter it anew."
        ) from None


def reseal(sealed: str) -> str:
    """The same secret under the newest key; raises Unreadable."""
    try:
        return _keys().rotate(sealed.encode()).decode()
    except InvalidToken:
        raise Unreadable("It was encrypted under a SECRET_KEY that is not known here.") from None
