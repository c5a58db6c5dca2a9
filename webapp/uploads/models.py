"""A file on its way here, piece by piece, until something takes it over or it expires."""

from __future__ import annotations

import uuid

from django.db import models

from webapp.accounts.models import OwnedModel


class Upload(OwnedModel):
    """One file that `created_by` sends into a workspace. Nobody else sees it before it is whole and taken.

    In a folder the file's own size says how much has arrived, and `offset` is what was last noted of it; in
    a bucket, where nothing grows, `offset` is the truth.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=300)  # as its owner called it; never used as a path
    length = models.BigIntegerField()  # bytes that were announced
    offset = models.BigIntegerField(default=0)  # bytes that are here
    metadata = models.JSONField(default=dict)  # {key: text} of Upload-Metadata, given back as it came
    sha256 = models.CharField(max_length=64, blank=True)  # of the whole; set once it is here and counted
    multipart_id = models.CharField(
        max_length=1024, blank=True
    )  # the bucket's name for the unfinished object
    expires_at = models.DateTimeField()  # later with every byte that arrives

    class Meta:
        ordering = ["created_at", "pk"]
        indexes = [
            models.Index(fields=["expires_at"], name="upload_expired"),
            models.Index(fields=["workspace", "created_by"], name="upload_of_person"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_whole(self) -> bool:
        return bool(self.sha256)

    @property
    def key(self) -> str:
        """Where in storage its bytes are."""
        return f"{self.prefix}/data"

    @property
    def prefix(self) -> str:
        return f"uploads/{self.pk}"
