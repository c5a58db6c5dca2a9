"""One run on two hosts: two workers with homes of their own that share nothing but database, broker and storage.

Whatever happens to one of them, both let go, and the run comes to the weights of one that nothing
happened to.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.faults.cluster import Cluster, alive, until
from tests.faults.hosts import SETTINGS, TOGETHER, Hosts, hosts_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts_of(Cluster(tmp_path_factory.mktemp("hosts")), "one") as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(hosts: Hosts) -> int:
    """A run on two hosts that nothing happened to. With one host it waits, and the host is free for others."""
    run = hosts.cluster.submit("real", **TOGETHER)
    other = hosts.cluster.submit("real", **SETTINGS | {"num_train_epochs": 1})
    hosts.cluster.wait_for_success(other)
    assert hosts.cluster.status(run) == "queued"
    hosts.start("two")
    hosts.cluster.wait_for_success(run, 240)
    return run


def test_two_hosts_train_one_run_and_each_step_stands_once(hosts: Hosts, undisturbed: int) -> None:
    assert hosts.outcomes(undisturbed) == ["succeeded"]
    steps = [point[1] for point in hosts.cluster.points(undisturbed) if point[0] == "loss"]
    assert steps and len(steps) == len(set(steps))
    # 240 rows in batches of four on each of two hosts are 30 steps an epoch.
    assert hosts.cluster.rows("SELECT total_steps FROM runs_run WHERE id = %s", undisturbed)[0][0] == 360
    started = next(text for text in hosts.story(undisturbed) if text.startswith("Started on hosts "))
    assert started.count(" and ") == 1
    hosts.all_let_go()
    node = hosts.cluster.rows(
        "SELECT n.outcome FROM runs_node n JOIN runs_attempt a ON a.id = n.attempt_id WHERE a.run_id = %s",
        undisturbed,
    )
    assert node == [("done",)]


def test_a_rank_that_is_killed_on_one_host_ends_the_attempt_on_both(hosts: Hosts, undisturbed: int) -> None:
    run = hosts.begin(**TOGETHER)
    trainers = hosts.trainers()
    assert len(trainers) == 2
    os.kill(hosts.rank(hosts.follower(run)), signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in trainers), 60)
    hosts.check(run, undisturbed)
    assert hosts.outcomes(run) == ["lost", "succeeded"]
    story = hosts.story(run)
    assert any("was ended by SIGKILL" in text for text in story), story


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_worker_that_is_killed_lets_the_other_go_and_the_run_goes_on_later(
    hosts: Hosts, undisturbed: int, role: str
) -> None:
    run = hosts.begin(**TOGETHER)
    trainers = hosts.trainers()
    victim = hosts.leader(run) if role == "leader" else hosts.follower(run)
    hosts.workers[victim].kill()
    hosts.workers[victim].wait()
    # The other is free again, though there is nobody to train with.
    until(lambda: not any(alive(pid) for pid in trainers), 60)
    until(lambda: hosts.cluster.status(run) == "queued", 60)
    small = hosts.cluster.submit("real", **SETTINGS | {"num_train_epochs": 1})
    hosts.cluster.wait_for_success(small)
    hosts.start(victim)
    hosts.check(run, undisturbed)
    assert hosts.outcomes(run) == ["lost", "succeeded"]


def test_a_host_that_freezes_for_longer_than_its_lease_lets_go_when_it_wakes(
    hosts: Hosts, undisturbed: int
) -> None:
    run = hosts.begin(**TOGETHER)
    trainers = hosts.trainers()
    frozen = hosts.follower(run)
    hosts.freeze(frozen)
    # Without a word from it the leader lets go; and it gets no part again until it is heard of.
    until(lambda: hosts.cluster.status(run) == "queued", 60)
    until(lambda: not hosts.trainers(hosts.leader(run)))
    assert hosts.outcomes(run) == ["lost"]
    assert any("host 2 of the run, stopped answering" in text for text in hosts.story(run))
    hosts.thaw(frozen)
    until(lambda: not any(alive(pid) for pid in trainers), 60)
    hosts.check(run, undisturbed)
    assert hosts.outcomes(run) == ["lost", "succeeded"]


@pytest.mark.parametrize("state", ["cut", "silent"])
def test_a_host_that_cannot_reach_the_database_lets_go_before_another_attempt_begins(
    hosts: Hosts, undisturbed: int, state: str
) -> None:
    run = hosts.begin(**TOGETHER)
    trainers = hosts.trainers()
    follower = hosts.follower(run)
    for trainer in hosts.trainers(follower):  # or it might have finished before the lease has run out
        os.killpg(trainer, signal.SIGSTOP)
    link = hosts.links[follower]
    link.become(state)
    # It has kept to its lease by itself: its trainer is gone though nobody could tell it anything.
    until(lambda: not any(alive(pid) for pid in trainers), 60)
    until(lambda: hosts.cluster.status(run) == "queued", 60)
    assert hosts.outcomes(run) == ["lost"]
    link.become("open")
    hosts.check(run, undisturbed)
    assert hosts.outcomes(run) == ["lost", "succeeded"]


def test_a_worker_that_is_told_to_leave_has_the_run_saved_and_given_back(
    hosts: Hosts, undisturbed: int
) -> None:
    run = hosts.begin(**TOGETHER)
    follower = hosts.follower(run)
    hosts.workers[follower].terminate()
    assert hosts.workers[follower].wait(60) == 0
    until(lambda: hosts.cluster.status(run) == "queued", 60)
    hosts.start(follower)
    hosts.check(run, undisturbed)
    assert hosts.outcomes(run) == ["released", "succeeded"]
