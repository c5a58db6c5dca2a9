"""Messages to an address of the user's, signed by the Standard Webhooks specification (standardwebhooks.com).

The signature is HMAC-SHA256 over `id.timestamp.body`, its key the base64 that follows `whsec_` in the secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import ssl
import time

from webapp import addresses
from webapp.addresses import Answer

PREFIX = "whsec_"
SECONDS = 15.0  # for a whole delivery


def new_secret() -> str:
    """256 random bits, in the specification's form."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def send(
    url: str, secret: str, message_id: str, body: bytes, *, trusted: ssl.SSLContext | None = None
) -> Answer:
    """One delivery; raises addresses.Refused or addresses.Unreachable."""
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Tuneboard-Webhook/1 (+https://www.standardwebhooks.com)",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message_id, timestamp, body),
    }
    return addresses.post(url, body, headers, seconds=SECONDS, trusted=trusted)
