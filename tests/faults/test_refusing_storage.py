"""A bucket that answers 503 for a while, to writing alone or to everything: runs wait for it, and lose nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import settled
from tests.faults.conftest import MOMENTS
from tests.faults.fleet import Fleet
from tests.webapp.test_storage import BUCKET, FakeS3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
WRITING = ("PUT", "POST", "DELETE")


class RefusingS3(FakeS3):
    """Answers what `refuses` names with 503, as a store does that is overloaded or read-only."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: tuple[str, ...] = ()
        self.refused = 0
        for method in (*WRITING, "GET", "HEAD"):
            self._guard(self.server.RequestHandlerClass, method)

    def _guard(self, handler: Any, method: str) -> None:
        real = getattr(handler, f"do_{method}", None)
        bucket = self

        def guarded(request: Any) -> None:
            if method in bucket.refuses:
                bucket.refused += 1
                request.rfile.read(int(request.headers.get("Content-Length") or 0))
                request.answer(503, b"<Error><Code>ServiceUnavailable</Code></Error>")
            elif real is not None:
                real(request)
            else:
                request.answer(405)

        setattr(handler, f"do_{method}", guarded)


class Bucket(settled.Folder):
    """Reads it from within."""

    def __init__(self, bucket: RefusingS3) -> None:
        self.bucket = bucket

    def __call__(self, key: str) -> bytes:
        return self.bucket.objects[f"prefix/{key}"]

    def everything(self) -> list[str]:
        return [key.removeprefix("prefix/") for key in self.bucket.objects]


@pytest.fixture(scope="module")
def bucket() -> Iterator[RefusingS3]:
    running = RefusingS3()
    yield running
    running.server.shutdown()


@pytest.fixture(scope="module")
def fleet(bucket: RefusingS3, homes: Callable[[], Path]) -> Iterator[Fleet]:
    keys = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{bucket.server.server_address[1]}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    made = Fleet(homes(), storage_url=f"s3://{BUCKET}/prefix", extra=keys)
    try:
        made.begin()
        yield made
    finally:
        bucket.refuses = ()
        made.stop()


def test_storage_that_refuses_for_a_while_costs_nothing(
    fleet: Fleet, bucket: RefusingS3, chance: random.Random
) -> None:
    for _ in range(MOMENTS):
        fleet.keep_busy(chance)
        time.sleep(chance.uniform(0, 2))
        bucket.refuses = chance.choice([WRITING, (*WRITING, "GET", "HEAD")])
        time.sleep(chance.uniform(0.5, 6))
        bucket.refuses = ()
    settled.check(fleet, Bucket(bucket))
    assert bucket.refused
