"""A host joins with three settings and an empty home, shares no disk with anybody, and leaves in peace."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import ROOT, Cluster, alive, until
from tests.runs.execution.supervised import weights_of
from tests.webapp.test_storage import FakeS3

pytestmark = pytest.mark.slow
SCRIPTED = Path(__file__).parents[1] / "runs" / "execution" / "scripted_trainer.py"
STEPS = 150


@pytest.fixture
def bucket() -> Iterator[FakeS3]:
    running = FakeS3()
    yield running
    running.stop()


@pytest.fixture
def cluster(tmp_path: Path, bucket: FakeS3) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "web", shlex.join([sys.executable, str(SCRIPTED)]))
    made.environment |= bucket.environment
    made.start("dispatcher")
    yield made
    made.stop()


def join(cluster: Cluster, home: Path) -> subprocess.Popen[bytes]:
    """`manage.py worker` on a host where nothing of Tuneboard has ever run."""
    assert not home.exists()
    with (home.parent / f"{home.name}.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "worker"],
            cwd=ROOT,
            env=cluster.environment | {"TUNEBOARD_HOME": str(home)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    cluster.processes.append(process)
    return process


def test_a_run_moves_between_hosts_that_share_nothing_but_a_bucket(
    cluster: Cluster, bucket: FakeS3, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    first = join(cluster, one)
    asked = json.dumps({"steps": STEPS, "delay": 0.05, "checkpoint_every": 20})
    run = int(cluster.manage(str(Path(__file__).with_name("submit_stored.py")), asked))
    cluster.wait_for_checkpoint(run)
    trainers = cluster.remember_children(first.pid)

    # A deploy, or a spot notice: the trainer saves, and the run goes back to the queue.
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    assert not [pid for pid in trainers if alive(pid)]
    assert cluster.status(run) == "queued"
    (stopped_at,) = cluster.rows("SELECT max(step) FROM runs_checkpoint WHERE run_id = %s", run)[0]
    assert 20 <= stopped_at < STEPS
    allowed = cluster.rows("SELECT attempt, attempts_allowed FROM runs_run WHERE id = %s", run)[0]
    assert allowed == (1, 4)  # leaving counts as no attempt
    assert list((one / "work").iterdir()) == []
    gone = "SELECT last_seen_at < now() - interval '8 s', slots FROM runs_worker"
    assert cluster.rows(gone) == [(True, 1)]

    join(cluster, other)
    cluster.wait_for_success(run)
    keys = cluster.rows(
        "SELECT storage_key FROM runs_artifact WHERE run_id = %s AND name = 'weights.txt'", run
    )
    assert bucket.objects[f"prefix/{keys[0][0]}"].decode() == weights_of(7, STEPS)
    outcomes = "SELECT outcome, resumed_from_step FROM runs_attempt WHERE run_id = %s ORDER BY number"
    assert cluster.rows(outcomes, run) == [("released", None), ("succeeded", stopped_at)]

    # Each has fetched the dataset and the base model for itself, whole.
    for home in (one, other):
        (dataset,) = (home / "cache" / "datasets").iterdir()
        assert sorted(path.name.split("-")[0] for path in dataset.iterdir()) == ["test", "train"]
        (model,) = (home / "cache" / "stored-models").iterdir()
        assert {path.name: path.read_text() for path in model.iterdir()} == {
            "config.json": "{}",
            "model.safetensors": "weights",
        }

    # The story, as people read it.
    story = cluster.rows("SELECT kind, message FROM runs_event WHERE run_id = %s ORDER BY id", run)
    told = [message for kind, message in story if kind not in {"checkpoint", "phase"}]
    (host,) = cluster.rows("SELECT DISTINCT host FROM runs_worker")[0]
    assert told == [
        "Queued.",
        f"Started on host {host}.",
        "The worker is shutting down: saving a checkpoint.",
        "Queued again: its worker is shutting down.",
        f"Started on host {host} (attempt 2).",
        f"Resumed on {host} from step {stopped_at:,}.",
        "Succeeded.",
    ]
    kinds = [kind for kind, _ in story]
    before = kinds.index("released") - 1
    assert story[before] == ("checkpoint", f"Checkpoint at step {stopped_at:,}.")
    # Both hosts have said what they do, and by themselves.
    samples = "SELECT count(DISTINCT worker_id) FROM runs_workersample"
    until(lambda: cluster.rows(samples) == [(2,)])


def test_a_worker_is_drained_by_its_name_and_can_then_be_stopped(cluster: Cluster, tmp_path: Path) -> None:
    first = join(cluster, tmp_path / "one")
    script = str(Path(__file__).with_name("submit_stored.py"))
    run = int(cluster.manage(script, json.dumps({"steps": 400, "delay": 0.05})))
    until(lambda: cluster.status(run) == "running", 60)
    (name,) = cluster.rows("SELECT name FROM runs_worker")[0]
    said = cluster.manage("drain", name, "--wait")
    assert "finishes 1 run and takes no more" in said and f"{name} can be stopped." in said
    assert cluster.status(run) == "succeeded"
    assert "This worker drains" in (tmp_path / "one.log").read_text()
    first.terminate()
    assert first.wait(60) == 0
