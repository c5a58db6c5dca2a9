"""Runs a conversion, or a count of tokens, in a process of its own, with a limit on memory and without the server's secrets.

    python -m webapp.datasets.isolated ORDER.json OUTPUT SCRATCH

reads an order, writes progress to standard output, a JSON list a line, and ends with `result.json` beside the
order. The parent kills it when its own work is void, and it dies with its parent.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from webapp.datasets.problems import Problem

MEMORY_LIMIT = 8 << 30  # bytes of address space; what it uses is far less
REPORT_SECONDS = 0.5
ROOT = Path(__file__).resolve().parents[2]
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


class Crashed(Exception):
    """The process ended without a result: a fault or a memory limit, not a finding about the file."""


def convert_apart(
    order: dict[str, Any], output: Path, scratch: Path, report: Callable[[str, int, int], None]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """(what conversion.Converted says, its problems), or (None, [the problem that the files were refused for]).

    An order with a `tokenizer` is one of token_counting.py, and so is what comes of it.

    `report` is called for each line of progress, and about every second without: it may raise to stop.
    """
    asked = scratch / "order.json"
    asked.write_text(json.dumps(order))
    command = [sys.executable, "-m", "webapp.datasets.isolated", str(asked), str(output), str(scratch)]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    with (scratch / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        last: list[Any] = ["starting", 0, 0]
        reader = threading.Thread(target=_follow, args=(process, last), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                report(*last)
                try:
                    process.wait(REPORT_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
            process.wait()
            reader.join()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        result = scratch / "result.json"
        if process.returncode != 0 or not result.exists():
            errors.seek(max(0, errors.tell() - 4000))
            raise Crashed(f"exit status {process.returncode}: {errors.read()[-2000:]}")
    said: dict[str, Any] = json.loads(result.read_text())
    if "refused" in said:
        return None, [said["refused"]]
    return said, said.pop("problems")


def _follow(process: subprocess.Popen[bytes], last: list[Any]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        last[:] = json.loads(line)


def main() -> int:
    """The program."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_die_with_parent, daemon=True).start()

    from webapp.datasets.problems import Refused

    order, output, scratch = (Path(argument) for argument in sys.argv[1:4])
    said_at = 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= REPORT_SECONDS / 2 or done == 0:
            said_at = time.monotonic()
            print(json.dumps([stage, done, total]), flush=True)  # noqa: T201 - this is the protocol

    result: dict[str, Any]
    try:
        result = _result(json.loads(order.read_text()), output, scratch, report)
    except Refused as refused:
        result = {"refused": refused.problem.as_json()}
    except (MemoryError, OSError) as error:
        result = {"refused": _no_room(error).as_json()}
    (scratch / "result.json").write_text(json.dumps(result))
    return 0


def _result(
    asked: dict[str, Any], output: Path, scratch: Path, report: Callable[[str, int, int], None]
) -> dict[str, Any]:
    if "tokenizer" in asked:
        from webapp.datasets import token_counting

        return {
            **token_counting.count_tokens(token_counting.Order(**asked), scratch, report),
            "problems": [],
        }
    from webapp.datasets.conversion import Order, convert_files

    return asdict(convert_files(Order(**asked), output, scratch, report))


def _no_room(error: MemoryError | OSError) -> Problem:
    if isinstance(error, OSError) and error.errno != 28:
        raise error
    what = "memory" if isinstance(error, MemoryError) else "disk space"
    return Problem(
        "too_heavy",
        f"Reading the files took more {what} than there is.",
        "Split them into several smaller files, or cut very long values.",
    )


def _die_with_parent() -> None:
    """Standard input is held open by the parent and ends with it."""
    while os.read(0, 1):  # not sys.stdin: its lock would be in the way when this process ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
