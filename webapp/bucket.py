"""Storage in an S3 bucket (STORAGE_URL=s3://…), read as it comes.

django-storages fetches a whole object, into memory or a temporary file, before the first byte of it can be read.
A checkpoint or a dataset of many gigabytes would pass through a disk that may have no room for it.
"""

from __future__ import annotations

import io
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError
from django.core.files import File
from storages.backends.s3 import S3Storage

CHUNK = 1 << 20
TRIES = 3  # of one read, where the connection breaks in the middle of an object


class Bucket(S3Storage):  # type: ignore[misc]
    """As django-storages has it, but for reading."""

    def _open(self, name: str, mode: str = "rb") -> Any:
        if mode != "rb":
            return super()._open(name, mode)
        place = {"Bucket": self.bucket_name, "Key": self._normalize_name(name)}
        return File(io.BufferedReader(_Object(self.connection.meta.client, place), CHUNK), name)


class _Object(io.RawIOBase):
    """One object from any byte on. Reading on keeps the connection; after a seek a new one is asked for."""

    def __init__(self, client: Any, place: dict[str, str]) -> None:
        """Raises FileNotFoundError if there is none."""
        self._client, self._place = client, place
        try:
            self._size = int(client.head_object(**place)["ContentLength"])
        except ClientError as error:
            raise _missing_or(error, place) from error
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        if start + offset != self._position:
            self._drop()
            self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Up to as many bytes as there is room for; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if not len(view) or self._position >= self._size:
            return 0
        for left in reversed(range(TRIES)):
            try:
                data = self._opened().read(len(view))
            except (HTTPClientError, IncompleteReadError):
                self._drop()
                if not left:
                    raise
            else:
                break
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _opened(self) -> Any:
        if self._body is None:
            try:
                answer = self._client.get_object(**self._place, Range=f"bytes={self._position}-")
            except ClientError as error:
                raise _missing_or(error, self._place) from error
            self._body = answer["Body"]
        return self._body

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()


def _missing_or(error: Exception, place: dict[str, str]) -> Exception:
    answer = getattr(error, "response", {}).get("ResponseMetadata", {})
    if answer.get("HTTPStatusCode") == 404:
        return FileNotFoundError(f"{place['Key']} is not in the bucket.")
    return error
