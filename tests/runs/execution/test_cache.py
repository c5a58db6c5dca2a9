"""The cache of a host: whole or absent, fetched once, within its limit, and never taken from who uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from runs.execution.cache import Cache, DamagedEntry, Leases
from tests.runs.execution.supervised import until

KB = 1000


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """With room for ten entries of the size that `filled` makes, and what is written about them."""
    return Cache(tmp_path / "cache", max_bytes=105 * KB)


def filled(size: int = 10 * KB, said: list[str] | None = None) -> Callable[[Path], None]:
    def fetch(folder: Path) -> None:
        if said is not None:
            said.append(folder.name)
        (folder / "data").write_bytes(b"x" * size)

    return fetch


def add(cache: Cache, key: str, leases: Leases, at: float = 0.0, **options: int) -> Path:
    """An entry that was last used so many seconds after the beginning."""
    folder = cache.folder("datasets", key, filled(**options), leases)
    if at:
        os.utime(cache.meta / f"datasets-{key}.json", (at, at))
    return folder


def kept(cache: Cache) -> set[str]:
    return {path.name for path in (cache.root / "datasets").iterdir()}


def test_an_entry_is_fetched_once_and_then_used_as_it_lies(cache: Cache) -> None:
    said: list[str] = []
    leases = cache.begin("1-1")
    first = cache.folder("datasets", "a", filled(said=said), leases)
    assert cache.folder("datasets", "a", filled(said=said), leases) == first
    assert len(said) == 1 and (first / "data").read_bytes() == b"x" * 10 * KB


def test_what_was_used_least_recently_goes_first(cache: Cache) -> None:
    leases = cache.begin("1-1")
    for number in range(9):
        add(cache, f"e{number}", leases, at=1000 + number)
    leases.close()
    leases = cache.begin("2-1")
    cache.folder("datasets", "e0", filled(), leases)  # used again: no longer the oldest
    add(cache, "new", leases, size=30 * KB)
    assert kept(cache) == {"e0", *(f"e{number}" for number in range(3, 9)), "new"}
    assert cache.used_bytes() <= cache.max_bytes


def test_room_is_made_before_the_fetch(cache: Cache) -> None:
    leases = cache.begin("1-1")
    for number in range(9):
        add(cache, f"e{number}", leases, at=1000 + number)
    leases.close()
    most = 0

    def fetch(folder: Path) -> None:
        nonlocal most
        filled(50 * KB)(folder)
        most = cache.used_bytes()

    cache.folder("datasets", "new", fetch, cache.begin("2-1"), expected_bytes=50 * KB)
    assert 50 * KB < most <= cache.max_bytes


def test_what_an_attempt_uses_is_never_removed_however_little_room_is_left(cache: Cache) -> None:
    using = cache.begin("1-1")
    add(cache, "mine", using, at=1000)
    other = cache.begin("2-1")
    for number in range(9):
        add(cache, f"e{number}", other, at=2000 + number)
    other.close()
    more = cache.begin("3-1")
    add(cache, "huge", more, size=200 * KB)  # larger than the limit: a run needs it all the same
    assert kept(cache) == {"mine", "huge"}
    using.close()
    more.close()
    cache.trim()
    assert kept(cache) == set() and cache.used_bytes() < 5 * KB


def test_two_who_want_the_same_share_one_fetch(cache: Cache) -> None:
    said: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def slowly(folder: Path) -> None:
        filled(said=said)(folder)
        begun.set()
        assert go_on.wait(30)

    found: list[Path] = []

    def use() -> None:
        found.append(Cache(cache.root, cache.max_bytes).folder("datasets", "a", slowly, cache.begin("x")))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    time.sleep(0.2)  # the others come while it is being fetched
    assert found == []
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert len(said) == 1 and len(set(found)) == 1 and len(found) == 4


OTHER = """
import sys, time
from pathlib import Path
from runs.execution.cache import Cache
cache = Cache(Path(sys.argv[1]), {limit})
leases = cache.begin("9-1")
def fetch(folder):
    (folder / "data").write_bytes(b"x" * 5000)
    print("half", flush=True)
    {then}
cache.folder("datasets", "theirs", fetch, leases)
print("whole", flush=True)
time.sleep(60)
"""


def other_process(cache: Cache, then: str, word: str) -> subprocess.Popen[str]:
    """Another worker of this home, when it has said a word."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER.format(limit=cache.max_bytes, then=then), str(cache.root)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=settings.ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "webapp.settings"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return process
    raise AssertionError("it ended")


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_kill_in_the_middle_of_a_fetch_leaves_nothing_that_counts(cache: Cache) -> None:
    kill(other_process(cache, "time.sleep(60)", "half"))
    assert not (cache.root / "datasets").exists()
    assert cache.used_bytes() >= 5000  # half of it lies about
    cache.trim()
    assert cache.used_bytes() == 0
    said: list[str] = []
    folder = cache.folder("datasets", "theirs", filled(said=said), cache.begin("1-1"))
    assert len(said) == 1 and (folder / "data").stat().st_size == 10 * KB


def test_who_waits_for_a_fetch_whose_process_is_killed_does_it_instead(cache: Cache) -> None:
    process = other_process(cache, "time.sleep(60)", "half")
    said: list[str] = []
    leases = cache.begin("1-1")
    waiting = threading.Thread(target=lambda: cache.folder("datasets", "theirs", filled(said=said), leases))
    waiting.start()
    time.sleep(0.3)
    assert said == []
    kill(process)
    waiting.join(30)
    assert len(said) == 1 and kept(cache) == {"theirs"}


def test_what_another_process_uses_stays_until_it_is_killed(cache: Cache) -> None:
    process = other_process(cache, "pass", "whole")
    small = Cache(cache.root, max_bytes=1)
    small.trim()
    assert kept(cache) == {"theirs"}
    kill(process)
    until(lambda: small.trim() or not kept(cache))
    assert kept(cache) == set()


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "added", "manifest"])
def test_a_damaged_entry_is_fetched_again(cache: Cache, damage: str) -> None:
    leases = cache.begin("1-1")
    folder = add(cache, "a", leases)
    match damage:
        case "cut":
            (folder / "data").write_bytes(b"x" * 9)
        case "changed":
            (folder / "data").write_bytes(b"y" * 10 * KB)
        case "missing":
            (folder / "data").unlink()
        case "added":
            (folder / "stray").touch()
        case "manifest":
            (cache.meta / "datasets-a.json").write_text("{")
    leases.close()
    said: list[str] = []
    folder = cache.folder("datasets", "a", filled(said=said), cache.begin("2-1"))
    assert len(said) == 1 and (folder / "data").read_bytes() == b"x" * 10 * KB
    assert [path.name for path in folder.iterdir()] == ["data"]


def test_a_file_that_was_only_touched_is_not_fetched_again(cache: Cache) -> None:
    leases = cache.begin("1-1")
    os.utime(add(cache, "a", leases) / "data", (1, 1))
    said: list[str] = []
    cache.folder("datasets", "a", filled(said=said), leases)
    assert said == []


def test_what_does_not_pass_its_check_or_fails_half_way_is_not_kept(cache: Cache) -> None:
    def refuse(folder: Path) -> None:
        assert (folder / "data").is_file()
        raise DamagedEntry("other bytes")

    def fail(folder: Path) -> None:
        filled()(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(DamagedEntry):
        cache.folder("datasets", "a", filled(), cache.begin("1-1"), check=refuse)
    with pytest.raises(OSError, match="No space"):
        cache.folder("datasets", "a", fail, cache.begin("1-2"))
    assert not (cache.root / "datasets").exists() and cache.used_bytes() < KB


def converted(cache: Cache, name: str, used: float, size: int = 60 * KB) -> Path:
    """As a trainer keeps a base model that it has converted."""
    folder = cache.root / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w" * size)
    lock = folder.with_suffix(".lock")
    lock.touch()
    os.utime(lock, (used, used))
    return folder


def test_what_trainers_keep_counts_and_goes_when_it_was_not_used_since_the_oldest_attempt_began(
    cache: Cache,
) -> None:
    old, in_use = converted(cache, "gguf-old", used=1000), converted(cache, "gguf-new", used=time.time() + 60)
    leases = cache.begin("1-1")
    assert cache.used_bytes() >= 120 * KB
    add(cache, "a", leases)
    assert not old.exists() and in_use.exists()
    Cache(cache.root, max_bytes=1).trim()
    assert in_use.exists()  # an attempt under way may be reading it
    leases.close()
    Cache(cache.root, max_bytes=1).trim()
    assert not in_use.exists() and kept(cache) == set()


def test_tables_and_hub_snapshots_stay_while_anything_runs(cache: Cache) -> None:
    table = cache.root / "arrow" / "parquet" / "default-1" / "0.0.0" / "rows.arrow"
    weights = cache.root / "hub" / "models--org--name-1.5" / "blobs" / "abc"
    for path in (table, weights):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"r" * 80 * KB)
    leases = cache.begin("1-1")
    cache.trim()
    assert table.exists() and weights.exists()
    leases.close()
    os.utime(table, (1000, 1000))
    cache.trim()
    assert not table.exists() and weights.exists()  # and no more than had to go


def test_an_attempt_that_was_given_up_holds_nothing_it_fetched_later(cache: Cache) -> None:
    leases = cache.begin("1-1")
    leases.close()
    add(cache, "late", leases)
    Cache(cache.root, max_bytes=1).trim()
    assert kept(cache) == set()


@pytest.mark.parametrize(("kind", "key"), [("datasets", "../x"), ("datasets", ".x"), ("models", "x")])
def test_no_entry_lies_elsewhere(cache: Cache, kind: str, key: str) -> None:
    with pytest.raises(ValueError, match="no entry"):
        cache.folder(kind, key, filled(), Leases())


def test_without_a_setting_the_limit_is_a_share_of_the_disk(tmp_path: Path) -> None:
    assert 0 < Cache(tmp_path / "c").max_bytes <= 200 * 10**9
