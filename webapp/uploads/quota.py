"""How much a workspace may keep: what its uploads will take counts before their bytes are sent.

Apps that keep what people upload say how much that is (`register`), so that nothing here knows of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db.models import F, Sum

from webapp import storage
from webapp.accounts.models import Workspace
from webapp.templatetags.ui import size
from webapp.uploads.models import Upload

_holders: list[Callable[[Workspace], int]] = []


def register(holder: Callable[[Workspace], int]) -> None:
    """`holder` tells the bytes that one kind of thing takes in a workspace."""
    if holder not in _holders:
        _holders.append(holder)


@dataclass(frozen=True)
class Quota:
    """Of one workspace, in bytes."""

    used: int
    limit: int | None  # None: no limit

    @property
    def left(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used)


def quota_of(workspace: Workspace) -> Quota:
    """What is kept, and what uploads under way will take once they are whole."""
    coming = Upload.objects.filter(workspace=workspace).aggregate(all=Sum("length"))["all"] or 0
    used = coming + sum(holder(workspace) for holder in _holders)
    return Quota(used, settings.WORKSPACE_QUOTA_BYTES or None)


def refusal(workspace: Workspace, wanted: int) -> str:
    """Why so many bytes more cannot be taken, as a sentence; empty if they can.

    To be exact while others ask too, the caller holds a lock on the workspace until its own upload is noted.
    """
    quota = quota_of(workspace)
    if quota.left is not None and wanted > quota.left:
        return (
            f"This takes {size(wanted)}, and of the {size(quota.limit)} that this workspace may keep "
            f"{size(quota.left)} are left. Delete datasets that nobody needs, or discard uploads that were not "
            "finished; or ask whoever runs this server for more."
        )
    free = _free_bytes()
    if free is not None and wanted > free:
        return (
            f"This takes {size(wanted)}, and the server's disk has {size(free)} left for uploads. "
            "Ask whoever runs this server to make room."
        )
    return ""


def _free_bytes() -> int | None:
    """On the disk, less what uploads that were let in will still write; None where storage is no folder."""
    folder = storage.local_path("")
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    coming = Upload.objects.aggregate(all=Sum(F("length") - F("offset")))["all"] or 0
    return max(0, shutil.disk_usage(folder).free - coming)
