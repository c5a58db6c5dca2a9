"""A stream that has begun is closed with its response, however far it was read."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice

import pytest
from django.http import StreamingHttpResponse

from webapp.serving import Begun


@pytest.mark.parametrize("read", [0, 1, 2, 9])
def test_what_the_rest_comes_from_is_closed_with_the_response(read: int) -> None:
    closed = []

    def pieces() -> Generator[bytes, None, None]:
        try:
            yield from (b"one", b"two", b"three")
        finally:
            closed.append(True)

    rest = pieces()
    stream = Begun([next(rest)], rest)
    response = StreamingHttpResponse(stream)
    found = list(islice(response, read))
    assert found == [b"one", b"two", b"three"][:read]
    assert bool(closed) == (read > 3)
    response.close()
    assert closed == [True]
