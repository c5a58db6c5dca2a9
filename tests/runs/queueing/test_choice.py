"""Who is next: priorities first, then the workspace with the smallest share, then who has waited longest; never beyond a limit or a device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.models import Attempt, Run, Usage, Worker
from runs.queueing import release, usage
from webapp.accounts.models import Workspace

GB = 10**9


@pytest.fixture
def place(world: dict[str, Any]) -> Callable[..., Workspace]:
    """Makes a workspace with these limits."""
    return lambda name, **limits: Workspace.objects.create(name=name, slug=name, **limits)


@pytest.fixture
def queue(new_run: Callable[..., Run]) -> Callable[..., Run]:
    """Queues a run of a workspace."""
    return lambda name, place, **values: lifecycle.submit(new_run(name=name, workspace=place, **values), None)


def taken(worker: Worker, count: int, *queues: str) -> list[str]:
    """The names of the runs that are claimed one after the other."""
    names = []
    for _ in range(count):
        attempt = lifecycle.claim(worker, queues or worker.queues)
        if attempt is None:
            break
        names.append(attempt.run.name)
    return names


def test_within_a_workspace_priority_goes_before_age(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    lab = place("team")
    for name, priority in (("low", -1), ("old", 0), ("high", 1), ("new", 0)):
        queue(name, lab, priority=priority)
    assert taken(worker, 5) == ["high", "old", "new", "low"]


def test_workspaces_take_turns_however_many_runs_one_has_queued(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    busy, small = place("busy"), place("small")
    for number in range(6):
        queue(f"busy {number}", busy)
    for number in range(2):
        queue(f"small {number}", small)
    assert taken(worker, 4) == ["busy 0", "small 0", "busy 1", "small 1"]


def test_a_workspace_with_twice_the_weight_holds_twice_as_much(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    heavy, light = place("heavy", queue_weight=2), place("light")
    for number in range(10):
        queue(f"light {number}", light)
        queue(f"heavy {number}", heavy)
    counts = Counter(name.split()[0] for name in taken(worker, 9))
    assert counts == {"heavy": 6, "light": 3}


def test_of_equal_holders_the_one_that_has_used_less_today_goes_first(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    spent, fresh = place("spent"), place("fresh")
    Usage.objects.create(workspace=spent, day=timezone.localdate(), slot_seconds=100)
    yesterday = timezone.localdate() - timedelta(days=1)
    Usage.objects.create(workspace=fresh, day=yesterday, slot_seconds=10_000)
    queue("spent", spent)
    queue("fresh", fresh)
    assert taken(worker, 2) == ["fresh", "spent"]


def test_no_workspace_starves_behind_one_that_always_has_more(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    flood, drop = place("flood"), place("drop")
    for number in range(20):
        queue(f"flood {number}", flood, queued_at=timezone.now() - timedelta(days=1))
    queue("drop", drop)
    assert "drop" in taken(worker, 2)


def test_what_has_waited_for_long_moves_up_and_says_so(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    flood, drop = place("flood"), place("drop")
    patience = timedelta(seconds=release.PATIENCE_SECONDS)
    waits = queue("waits", drop, queued_at=timezone.now() - patience * 1.5, priority=-1)
    young = queue("young", drop, queued_at=timezone.now() - patience / 2, priority=-1)
    for number in range(5):
        queue(f"flood {number}", flood, priority=1)
    assert release.move_up() == 1 and release.move_up() == 0
    waits.refresh_from_db()
    assert (waits.priority, waits.rank, waits.events.latest("id").kind) == (-1, 0, "moved_up")
    Run.objects.filter(pk=waits.pk).update(queued_at=timezone.now() - patience * 2.5)
    assert release.move_up() == 1
    assert taken(worker, 2) == ["waits", "flood 0"]
    young.refresh_from_db()
    assert young.rank == -1


def test_a_workspace_runs_no_more_at_once_than_it_may(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    small, other = place("small", max_concurrent_runs=1), place("other")
    for number in range(3):
        queue(f"small {number}", small, priority=1)
    queue("other", other, priority=-1)
    assert taken(worker, 4) == ["small 0", "other"]
    lifecycle.succeed(Attempt.objects.get(run__name="small 0"), {})
    assert taken(worker, 4) == ["small 1"]


def test_gpu_hours_that_are_used_hold_back_gpus_and_nothing_else(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    lab = place("team", gpu_hours_a_day=2)
    used = Usage.objects.create(workspace=lab, day=timezone.localdate(), gpu_seconds=2 * 3600 + 1)
    queue("on a gpu", lab, queue="gpu1")
    queue("on the cpu", lab)
    assert taken(worker, 3, "cpu", "gpu1") == ["on the cpu"]
    Usage.objects.filter(pk=used.pk).update(day=timezone.localdate() - timedelta(days=1))
    assert taken(worker, 3, "cpu", "gpu1") == ["on a gpu"]


def test_gpus_that_are_held_now_count_too(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    lab = place("team", gpu_hours_a_day=4)
    queue("first", lab, queue="gpu4")
    queue("second", lab, queue="gpu1")
    assert taken(worker, 1, "gpu4") == ["first"]
    long_ago = timezone.now() - timedelta(minutes=70)
    Attempt.objects.update(started_at=long_ago)
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    since = max(midnight, long_ago)
    used = usage.used_by(lab.pk)
    assert (used.running, used.devices) == (1, 4)
    assert used.gpu_hours == pytest.approx(4 * (timezone.now() - since).total_seconds() / 3600, rel=0.05)
    expected = [] if used.gpu_hours >= 4 else ["second"]
    assert taken(worker, 1, "gpu1") == expected


def test_an_attempt_over_midnight_counts_on_both_days(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker, settings: Any
) -> None:
    lab = place("team")
    queue("night", lab, queue="gpu2")
    taken(worker, 1, "gpu2")
    zone = timezone.get_default_timezone()
    attempt = Attempt.objects.get()
    attempt.started_at = datetime(2030, 1, 1, 22, tzinfo=zone)
    attempt.finished_at = datetime(2030, 1, 2, 1, tzinfo=zone)
    attempt.save()
    usage.add(attempt)
    days = {row.day.day: (row.gpu_seconds, row.slot_seconds) for row in Usage.objects.order_by("day")}
    assert days == {1: (4 * 3600, 4 * 3600), 2: (2 * 3600, 2 * 3600)}


def test_every_end_of_an_attempt_is_counted_once(
    queue: Callable[..., Run], place: Callable[..., Workspace], worker: Worker
) -> None:
    lab = place("team")
    queue("first", lab)
    taken(worker, 1)
    hour_ago = timezone.now() - timedelta(hours=1)
    attempt = Attempt.objects.get()
    Attempt.objects.update(started_at=hour_ago)
    lifecycle.fail(attempt, {"code": "crashed", "message": "It crashed.", "hint": "", "log_tail": []})
    with pytest.raises(lifecycle.LeaseLost):
        lifecycle.succeed(attempt, {})
    rows = list(Usage.objects.all())
    assert sum(row.slot_seconds for row in rows) == pytest.approx(3600, abs=30)
    assert sum(row.gpu_seconds for row in rows) == 0


def host(name: str, *gigabytes: int) -> Worker:
    devices = [{"index": n, "name": "G", "memory_bytes": size * GB} for n, size in enumerate(gigabytes)]
    return Worker.objects.create(name=name, host=name, pid=1, queues=["cpu", "gpu1", "gpu2"], devices=devices)


def test_a_worker_gets_only_runs_that_fit_its_devices(
    queue: Callable[..., Run], place: Callable[..., Workspace]
) -> None:
    lab = place("team")
    queue("huge", lab, queue="gpu1", memory_bytes=60 * GB)
    queue("small", lab, queue="gpu1", memory_bytes=6 * GB)
    queue("unknown", lab, queue="gpu1")
    small, large = host("small", 8), host("large", 80)
    assert taken(small, 3) == ["small", "unknown"]
    assert taken(large, 3) == ["huge"]


def test_the_smallest_of_a_slots_devices_decides(
    queue: Callable[..., Run], place: Callable[..., Workspace]
) -> None:
    lab, mixed = place("team"), host("mixed", 8, 80)
    queue("huge", lab, queue="gpu1", memory_bytes=60 * GB)
    assert lifecycle.claim(mixed, ["gpu1"], [0]) is None
    assert lifecycle.claim(mixed, ["gpu2"], [0, 1]) is None
    assert lifecycle.claim(mixed, ["gpu1"], [1]) is not None


def test_an_estimate_that_is_a_little_above_does_not_keep_a_run_out(
    queue: Callable[..., Run], place: Callable[..., Workspace]
) -> None:
    queue("perhaps", place("team"), queue="gpu1", memory_bytes=9 * GB)
    assert taken(host("small", 8), 1) == ["perhaps"]
