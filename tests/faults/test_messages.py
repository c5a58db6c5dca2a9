"""What messages are for, and what goes on without them: with a worker that does not look by itself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.faults.cluster import Cluster, alive, until

pytestmark = pytest.mark.slow
SCRIPTED = Path(__file__).parents[1] / "runs" / "execution" / "scripted_trainer.py"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("messages"), shlex.join([sys.executable, str(SCRIPTED)]))
    yield made
    made.stop()


def test_a_wake_up_reaches_an_idle_worker_and_a_lost_one_is_sent_again(cluster: Cluster) -> None:
    patient = cluster.environment["TUNEBOARD_DISPATCH_SECONDS"]
    cluster.environment["TUNEBOARD_DISPATCH_SECONDS"] = "3600"  # of this worker alone
    worker = cluster.start("worker")
    cluster.environment["TUNEBOARD_DISPATCH_SECONDS"] = patient
    until(lambda: "slot(s) for" in (cluster.home / "worker.log").read_text())
    first = cluster.submit("scripted", steps=3)
    cluster.wait_for_success(first, 30)
    # The broker is away while the next is submitted, so nobody hears of it …
    cluster.kill_valkey()
    second = cluster.submit("scripted", steps=3)
    cluster.valkey.start()
    broker = redis.Redis.from_url(cluster.valkey.url)
    until(lambda: broker.client_list() and len(broker.client_list()) > 1, 60)  # the worker is back
    assert cluster.status(second) == "queued"
    # … until the dispatcher says it again.
    dispatcher = cluster.start("dispatcher")
    cluster.wait_for_success(second, 60)
    # A worker leaves when it is asked to, also while it tries to reach the broker.
    cluster.kill_valkey()
    children = cluster.remember_children(worker.pid)
    assert children
    worker.terminate()
    assert worker.wait(30) == 0
    until(lambda: not any(alive(pid) for pid in children))
    dispatcher.terminate()
    assert dispatcher.wait(30) == 0
    cluster.valkey.start()
