"""Uploads where storage is a bucket: a multipart upload of equal parts, and what is less than a part beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError
from django.db import connection

from webapp import storage
from webapp.uploads.models import Upload
from webapp.uploads.stores import Gone, Moved, Writer

LEAST_PART = 5 << 20  # what S3 takes as a part that is not the last
MOST_PARTS = 10_000
LOCK = 0x74757331  # class of the advisory locks of uploads


class Bucket:
    """As stores.Store. What the row says is the truth: it is written after the bytes."""

    def begin(self, upload: Upload) -> None:
        client, place = storage.bucket_place(upload.key)
        if upload.length:
            upload.multipart_id = client.create_multipart_upload(**place)["UploadId"]
            Upload.objects.filter(pk=upload.pk).update(multipart_id=upload.multipart_id)
        else:
            client.put_object(**place, Body=b"")

    def offset(self, upload: Upload) -> int:
        found = Upload.objects.filter(pk=upload.pk).values_list("offset", flat=True).first()
        if found is None:
            raise Gone
        return int(found)

    def writer(self, upload: Upload, offset: int) -> Writer:
        return _PartWriter(upload, offset)

    def finish(self, upload: Upload) -> None:
        """Make one object of the parts. Asked again, after a crash in between, it finds the object there."""
        if not upload.length:
            return
        client, place = storage.bucket_place(upload.key)
        try:
            parts = _parts(client, place, upload.multipart_id)
            if sum(part["Size"] for part in parts) != upload.length:
                raise Gone
            client.complete_multipart_upload(
                **place,
                UploadId=upload.multipart_id,
                MultipartUpload={
                    "Parts": [{"ETag": part["ETag"], "PartNumber": part["PartNumber"]} for part in parts]
                },
            )
        except ClientError as error:
            if not _is_missing(error) or not storage.exists(upload.key):
                raise _gone_or(error) from error
        storage.delete_file(_rest_key(upload))

    def remove(self, upload: Upload) -> None:
        client, place = storage.bucket_place(upload.key)
        if upload.multipart_id:
            try:
                client.abort_multipart_upload(**place, UploadId=upload.multipart_id)
            except ClientError as error:
                if not _is_missing(error):
                    raise
        storage.delete_under(upload.prefix)


class _PartWriter:
    """Holds at most one part in memory."""

    def __init__(self, upload: Upload, offset: int) -> None:
        self._upload, self._size = upload, part_size(upload.length)
        self.offset = self._kept = offset
        self._held = bytearray()
        if rest := offset % self._size:
            self._held += _read_rest(upload, rest)

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[: self._size - len(self._held)]
            self._held += piece
            self.offset += len(piece)
            view = view[len(piece) :]
            if len(self._held) == self._size:
                self._keep()

    def close(self) -> int:
        if self.offset > self._kept:
            self._keep()
        return self._kept

    def _keep(self) -> None:
        """What is held becomes a part; unless it is too small for one, then it waits for more."""
        is_part = len(self._held) == self._size or self.offset == self._upload.length
        with locked(self._upload):
            if Bucket().offset(self._upload) != self._kept:
                raise Moved
            try:
                self._send_part() if is_part else self._put_rest()
            except ClientError as error:
                raise _gone_or(error) from error
            Upload.objects.filter(pk=self._upload.pk).update(offset=self.offset)
        self._kept = self.offset
        if is_part:
            self._held.clear()

    def _send_part(self) -> None:
        client, place = storage.bucket_place(self._upload.key)
        number = (self.offset - 1) // self._size + 1
        body = bytes(self._held)
        client.upload_part(**place, UploadId=self._upload.multipart_id, PartNumber=number, Body=body)

    def _put_rest(self) -> None:
        client, place = storage.bucket_place(_rest_key(self._upload))
        client.put_object(**place, Body=bytes(self._held))


def part_size(length: int) -> int:
    """The same for all parts of an upload but the last, so that an offset says how many there are."""
    return max(LEAST_PART, -(-length // MOST_PARTS))


def _rest_key(upload: Upload) -> str:
    return f"{upload.prefix}/rest"


def _read_rest(upload: Upload, size: int) -> bytes:
    try:
        with storage.open_file(_rest_key(upload)) as file:
            rest = file.read()
    except FileNotFoundError as error:
        raise Gone from error
    if len(rest) < size:
        raise Moved  # another request has got further
    return rest[:size]  # more than was noted: whoever put it there was killed before the row


def _parts(client: Any, place: dict[str, str], multipart_id: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_parts").paginate(**place, UploadId=multipart_id)
    return [part for page in pages for part in page.get("Parts", [])]


def _is_missing(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in {"NoSuchUpload", "NoSuchKey", "404"}


def _gone_or(error: ClientError) -> Exception:
    return Gone() if _is_missing(error) else error


@contextlib.contextmanager
def locked(upload: Upload) -> Iterator[None]:
    """One at a time, over all web servers; Postgres frees the lock however its holder ends."""
    key = upload.pk.int & 0x7FFFFFFF
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK, key])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK, key])
