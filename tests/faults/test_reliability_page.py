"""docs/reliability.md names tests that are there, and every kind of fault."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.kinds import FAULTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text()


def test_every_promise_names_a_test_that_is_there() -> None:
    promises = PAGE.split("## Promises")[1].split("\n## ")[0].strip().splitlines()[2:]
    assert len(promises) > 12
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named, promise
        for path, name in named:
            assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


def test_every_kind_of_fault_is_told() -> None:
    told = re.sub(r"[^a-z]+", " ", PAGE.split("## Faults")[1].split("\n## ")[0].lower())
    for kind in FAULTS:
        words = [word for word in kind.split("_") if len(word) > 3 and word not in {"with", "data", "that"}]
        assert all(word.rstrip("s") in told for word in words), kind
