"""The life of an upload: announced, received piece by piece, whole, taken over or given up.

What people are told of it is always what storage has: `offset` of an upload that `current` returns is durable.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from webapp import storage
from webapp.accounts.models import User, Workspace
from webapp.templatetags.ui import size
from webapp.uploads import digests, quota
from webapp.uploads.models import Upload
from webapp.uploads.stores import Gone as Gone
from webapp.uploads.stores import Moved as Moved
from webapp.uploads.stores import store

log = logging.getLogger(__name__)
MOST_OPEN = 500  # of a workspace
LOST = "An upload is not there any more; send its file again."
NOTE_SECONDS = 5.0  # how often an upload that comes in one long request is noted


class Refused(Exception):
    """An upload cannot be let in; the message says why and what to do."""


def expiry() -> datetime:
    return timezone.now() + timedelta(hours=settings.UPLOAD_HOURS)


def uploads_of(user: User, workspace: Workspace) -> QuerySet[Upload]:
    """A person's own in a workspace, oldest first, that have not expired."""
    mine: QuerySet[Upload] = Upload.objects.filter(
        workspace=workspace, created_by=user, expires_at__gt=timezone.now()
    )
    return mine


def announce(user: User, workspace: Workspace, length: int, name: str, metadata: dict[str, str]) -> Upload:
    """Let a file of `length` bytes in, before any of them is sent. Raises Refused."""
    if length > settings.UPLOAD_MAX_BYTES:
        raise Refused(
            f"This file has {size(length)}; this server takes up to {size(settings.UPLOAD_MAX_BYTES)} at once."
        )
    with transaction.atomic():
        # One announcement at a time in a workspace: each sees what the others were promised.
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        if Upload.objects.filter(workspace=workspace).count() >= MOST_OPEN:
            raise Refused(
                f"This workspace has {MOST_OPEN} uploads that were not finished. Discard some of them first."
            )
        if reason := quota.refusal(workspace, length):
            raise Refused(reason)
        upload = Upload.objects.create(
            workspace=workspace,
            created_by=user,
            name=name,
            length=length,
            metadata=metadata,
            expires_at=expiry(),
        )
    try:
        store().begin(upload)
    except BaseException:
        discard(upload)
        raise
    return _ended(upload, 0)


def current(upload: Upload, *, wait: bool = False) -> Upload:
    """The upload as storage has it. Raises Gone where storage has lost it; then the row goes, too.

    `wait`: for the digest of one that is here, however long counting it takes.
    """
    if upload.is_whole:
        return upload
    try:
        return _ended(upload, store().offset(upload), wait=wait)
    except Gone:
        discard(upload)
        raise


def receive(upload: Upload, offset: int, body: Iterable[bytes]) -> Upload:
    """Append what comes, as far as it comes. Raises Moved, Gone, or storage's error; what arrived stays."""
    writer = store().writer(upload, offset)
    counting = digests.begin(upload, offset)
    noted = time.monotonic()
    try:
        for piece in body:
            writer.append(piece)
            if counting is not None:
                counting.add(piece)
            if time.monotonic() - noted > NOTE_SECONDS:
                noted = time.monotonic()
                _note(upload, writer.offset)
    finally:
        end = offset  # where the disk has failed, too: what is there after all is read when it is whole
        try:
            end = writer.close()
        finally:
            if counting is not None:
                digests.end(upload, counting, end)
    upload = _ended(upload, end)
    if end == upload.length and not upload.is_whole:
        threading.Thread(target=_end_later, args=(upload,), name="digest-noted", daemon=True).start()
    return upload


def _end_later(upload: Upload) -> None:
    """What `_ended` left, once its digest is counted. If this process is ended before, who asks next does it."""
    try:
        with contextlib.suppress(Gone):
            _ended(upload, upload.length, wait=True)
    except Exception:
        log.exception("The digest of upload %s could not be noted.", upload.pk)
    finally:
        connection.close()


def _note(upload: Upload, offset: int) -> None:
    """For pages that look on, and so that an upload which moves never expires. Raises Gone."""
    known = Upload.objects.filter(pk=upload.pk)
    # In a bucket, the offset was noted with the part that it ends.
    changes: dict[str, Any] = {"expires_at": expiry()}
    if storage.local_path("") is not None:
        changes["offset"] = offset
    if not known.update(**changes):
        raise Gone


def _ended(upload: Upload, offset: int, *, wait: bool = False) -> Upload:
    """After a request: note how far it came, and finish what is whole. Raises Gone.

    Its digest follows later if much of it is not counted yet, unless `wait`.
    """
    if offset != upload.offset:
        _note(upload, offset)
    upload.offset = offset
    if offset == upload.length and not upload.is_whole:
        store().finish(upload)
        if not wait and digests.left(upload) > digests.SOON:
            return _with_expiry(upload)
        try:
            upload.sha256 = digests.of_whole(upload)
        except FileNotFoundError as error:
            raise Gone from error
        digests.forget(upload)
        if not Upload.objects.filter(pk=upload.pk).update(sha256=upload.sha256, expires_at=expiry()):
            store().remove(upload)  # it was discarded meanwhile
            raise Gone
    return _with_expiry(upload)


def _with_expiry(upload: Upload) -> Upload:
    upload.expires_at = Upload.objects.values_list("expires_at", flat=True).get(pk=upload.pk)
    return upload


def discard(upload: Upload) -> None:
    """Give an upload up: its row first, so that who is sending it notices, then its bytes."""
    Upload.objects.filter(pk=upload.pk).delete()
    digests.forget(upload)
    store().remove(upload)


def remove_expired() -> None:
    """Discard what nobody has sent a byte of for UPLOAD_HOURS, unfinished or not taken over."""
    for upload in Upload.objects.filter(expires_at__lte=timezone.now()):
        # Asked once more in the statement: a byte may have come in this moment.
        if Upload.objects.filter(pk=upload.pk, expires_at__lte=timezone.now()).delete()[0]:
            store().remove(upload)


def find_whole(user: User, workspace: Workspace, ids: Sequence[uuid.UUID]) -> list[Upload]:
    """A person's uploads of these ids, in this order. Raises Refused if one is not there or not whole."""
    found = {each.pk: each for each in uploads_of(user, workspace).filter(pk__in=ids)}
    for pk in ids:
        if pk not in found:
            raise Refused(LOST)
        with contextlib.suppress(Gone):
            # The server may still be counting, or have been ended between the last byte and its digest.
            current(found[pk], wait=True)
        if not found[pk].is_whole:
            part = f"{size(found[pk].offset)} of {size(found[pk].length)}"
            raise Refused(f"“{found[pk].name}” has not arrived whole yet: {part}.")
    return [found[pk] for pk in ids]


def lock(uploads: Sequence[Upload]) -> None:
    """Until the transaction ends, nobody else takes them over. Raises Refused if one is gone meanwhile."""
    ids = {upload.pk for upload in uploads}
    rows = Upload.objects.select_for_update().filter(pk__in=ids).order_by("pk")
    if set(rows.values_list("pk", flat=True)) != ids:
        raise Refused(LOST)


def release(uploads: Sequence[Upload]) -> None:
    """Their bytes are kept elsewhere: the uploads go with this transaction."""
    Upload.objects.filter(pk__in=[upload.pk for upload in uploads]).delete()
    for upload in uploads:
        transaction.on_commit(lambda upload=upload: store().remove(upload))  # type: ignore[misc]
