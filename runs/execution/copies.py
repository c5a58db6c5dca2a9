"""The checkpoints of an attempt on their way to storage, behind the back of its training.

Each is linked aside as soon as the trainer announces it, since the trainer may delete it any moment; the
copy is made by the attempt's file thread. What arrived is handed to the supervising thread, which alone
writes to the database.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs.execution import checkpoints
from runs.execution.file_thread import FileThread
from runs.models import Attempt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Copy:
    """One checkpoint under way: what the trainer said of it, where to, its copying (→ bytes), what it is made from."""

    event: dict[str, Any]
    prefix: str
    copying: Future[int]
    links: Path

    @property
    def step(self) -> int:
        return int(self.event["step"])


class Copies:
    """Owned by one supervision, and used from its thread alone."""

    def __init__(self, attempt: Attempt, workdir: Path, files: FileThread) -> None:
        self._attempt = attempt
        self._workdir = workdir
        self._files = files
        self._under_way: list[Copy] = []
        self._begun: Counter[int] = Counter()  # of each step: a long evaluation has several

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def begin(self, event: dict[str, Any]) -> None:
        """Start to copy the checkpoint of a trainer's event; ValueError if it lies outside the work folder."""
        step = int(event["step"])
        if keep := event.get("keep"):
            for earlier in self._under_way:
                if earlier.step not in keep and earlier.step != step:
                    earlier.copying.cancel()  # overtaken before its turn came
        source = (self._workdir / event["path"]).resolve()
        self._begun[step] += 1
        # Each copy has a place of its own: the one before counts until this one has arrived.
        links = self._workdir / "outbox" / f"{step}-{self._begun[step]}"
        if not source.is_relative_to(self._workdir.resolve()):
            raise ValueError(f"the checkpoint {event['path']} lies outside the work folder")
        try:
            checkpoints.snapshot(source, links)
        except FileNotFoundError:
            log.info("The checkpoint of step %s was replaced before it could be stored.", step)
            shutil.rmtree(links, ignore_errors=True)
            return
        prefix = checkpoints.prefix_of(self._attempt, step, self._begun[step])
        copying = self._files.executor.submit(checkpoints.store, links, prefix, self._files.may_go_on)
        self._under_way.append(Copy(event, prefix, copying, links))

    def finished(self) -> Iterator[Copy]:
        """Take out those that ended, oldest first; what was overtaken is passed over."""
        while self._under_way and self._under_way[0].copying.done():
            copy = self._under_way.pop(0)
            shutil.rmtree(copy.links, ignore_errors=True)
            if not copy.copying.cancelled():
                yield copy

    def cancel(self, *, but_last: bool = False) -> None:
        """Begin no more of those that still wait for their turn."""
        for copy in self._under_way[:-1] if but_last else self._under_way:
            copy.copying.cancel()
