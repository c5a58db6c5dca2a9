"""Runs on hosts that share nothing but database, broker and a bucket, and on more than two hosts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.faults.cluster import Cluster, until
from tests.faults.hosts import SETTINGS, Hosts, hosts_of
from tests.webapp.test_storage import FakeS3

pytestmark = pytest.mark.slow
SHORT = SETTINGS | {"num_train_epochs": 8, "save_steps": 10, "eval_steps": 60, "strategy": "ddp"}


class InBucket(Cluster):
    """One whose files are in a bucket alone."""

    bucket: FakeS3

    def stored(self, key: str) -> bytes:
        return self.bucket.objects[f"prefix/{key}"]


@pytest.fixture
def bucket() -> Iterator[FakeS3]:
    running = FakeS3()
    yield running
    running.stop()


@pytest.fixture
def apart(tmp_path_factory: pytest.TempPathFactory, bucket: FakeS3) -> Iterator[Hosts]:
    cluster = InBucket(tmp_path_factory.mktemp("apart"))
    cluster.bucket = bucket
    cluster.environment |= bucket.environment
    with hosts_of(cluster, "one", "two") as found:
        yield found


@pytest.fixture
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts_of(Cluster(tmp_path_factory.mktemp("three")), "one", "two", "three") as found:
        yield found


def loses_a_rank(hosts: Hosts, nodes: int) -> int:
    """A run on so many hosts that goes on from a checkpoint, after one process of a host that does not lead died."""
    run = hosts.begin(**SHORT, nodes=nodes)
    assert len(hosts.trainers()) == nodes
    os.kill(hosts.rank(hosts.follower(run)), signal.SIGKILL)
    until(lambda: hosts.outcomes(run)[0] == "lost", 60)
    return run


def test_hosts_that_share_nothing_but_a_bucket_train_one_run_and_go_on_from_its_checkpoint(
    apart: Hosts, bucket: FakeS3
) -> None:
    undisturbed = apart.cluster.submit("real", **SHORT, nodes=2)
    apart.cluster.wait_for_success(undisturbed, 240)
    run = loses_a_rank(apart, 2)
    apart.check(run, undisturbed)
    assert apart.outcomes(run) == ["lost", "succeeded"]
    resumed = "SELECT resumed_from_step FROM runs_attempt WHERE run_id = %s AND number = 2"
    assert apart.cluster.rows(resumed, run)[0][0] >= 10
    # Each has fetched for itself, whoever led: from the bucket, for no folder holds anything.
    for name in apart.workers:
        cache = apart.cluster.home / name / "cache"
        assert [len(list((cache / kind).iterdir())) for kind in ("datasets", "stored-models")] == [1, 1]
    assert not list((apart.cluster.home / "storage").glob("**/*.*"))
    # What each of them printed is kept there as well.
    for attempt in (1, 2):
        for log in (f"attempt-{attempt}.log", f"attempt-{attempt}-host-2.log"):
            assert f"prefix/runs/{run}/logs/{log}" in bucket.objects


def test_three_hosts_train_one_run_and_one_dead_process_ends_it_on_all(three: Hosts) -> None:
    undisturbed = three.cluster.submit("real", **SHORT, nodes=3)
    three.cluster.wait_for_success(undisturbed, 240)
    # 240 rows in batches of four on each of three hosts are 20 steps an epoch.
    assert three.cluster.rows("SELECT total_steps FROM runs_run WHERE id = %s", undisturbed)[0][0] == 160
    run = loses_a_rank(three, 3)
    three.check(run, undisturbed)
    assert three.outcomes(run) == ["lost", "succeeded"]
    ends = three.cluster.rows(
        "SELECT n.rank, n.outcome FROM runs_node n JOIN runs_attempt a ON a.id = n.attempt_id "
        "WHERE a.run_id = %s AND a.number = 2 ORDER BY n.rank",
        run,
    )
    assert ends == [(1, "done"), (2, "done")]
