"""What trainers printed, by attempt and host: in the database while they run, in storage afterwards."""

from __future__ import annotations

from django.db import models

from runs.models.run import Attempt


class Log(models.Model):
    """The log of one host of an attempt, in whole lines, UTF-8. Offsets and sizes are bytes of that text."""

    # Without an index of its own: the constraint has one.
    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="logs", db_index=False)
    rank = models.IntegerField(default=0)  # of the host; 0 leads, the others have a Node
    read = models.BigIntegerField(default=0)  # how far the trainer's file was read; rises with every change
    size = models.BigIntegerField(default=0)  # bytes of all lines taken in, those given up later included
    lines = models.BigIntegerField(default=0)  # lines printed so far, those left out included
    unfinished = models.TextField(blank=True)  # a last line that has no end yet: a progress bar
    left_out = models.BigIntegerField(default=0)  # lines between the first and the last ones that are kept
    left_out_after = models.BigIntegerField(default=0)  # the number of the line before them
    left_out_at = models.BigIntegerField(default=0)  # the offset of the first byte after that line
    storage_key = models.CharField(max_length=500, blank=True)  # once it lies there whole; no chunks then
    stored_size = models.BigIntegerField(default=0)  # bytes of the file in storage

    class Meta:
        constraints = [models.UniqueConstraint(fields=["attempt", "rank"], name="one_log_a_host")]


class LogChunk(models.Model):
    """Some lines of a log that has not been brought to storage."""

    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="log_chunks")
    rank = models.IntegerField(default=0)
    start = models.BigIntegerField()  # offset of its first byte
    first_line = models.BigIntegerField()  # number of its first line; lines count from 1
    data = models.BinaryField()

    class Meta:
        ordering = ["start"]
        constraints = [
            models.UniqueConstraint(fields=["attempt", "rank", "start"], name="log_chunks_in_order")
        ]
