"""The kinds of fault. Each is a function that does its harm, mends what a machine's owner would mend, and returns."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import redis

from tests.faults.cluster import alive, until
from tests.faults.fleet import LEASE_SECONDS, Fleet, Host
from tests.faults.link import Link
from webapp.embedded import EmbeddedError

Fault = Callable[[Fleet, random.Random], None]
FAULTS: dict[str, Fault] = {}
LONG = (LEASE_SECONDS + 1, LEASE_SECONDS + 3)  # seconds that cost a lease
SHORT = (0.2, 2.0)  # and that should not


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def kill_a_trainer(fleet: Fleet, chance: random.Random) -> bool:
    """False if none is there."""
    trainers = fleet.trainers()
    with contextlib.suppress(ProcessLookupError):
        if trainers:
            os.kill(chance.choice(trainers)[1], signal.SIGKILL)
    return bool(trainers)


# -- killed ----------------------------------------------------------------------------------------
@fault
def trainer_killed(fleet: Fleet, chance: random.Random) -> None:
    while not kill_a_trainer(fleet, chance) and fleet.fills_up:  # all runs have ended meanwhile
        fleet.keep_busy(chance)


@fault
def worker_killed(fleet: Fleet, chance: random.Random) -> None:
    host = chance.choice(fleet.hosts)
    fleet.kill(host.process)
    time.sleep(chance.choice([0, chance.uniform(*LONG)]))  # restarted at once, or taken over by another
    fleet.start_worker(host)


@fault
def dispatcher_killed(fleet: Fleet, chance: random.Random) -> None:
    victim = fleet.dispatchers.pop(chance.randrange(len(fleet.dispatchers)))
    fleet.kill(victim)
    fleet.start_dispatcher()


@fault
def valkey_killed(fleet: Fleet, chance: random.Random) -> None:
    fleet.kill_valkey()
    time.sleep(chance.uniform(*SHORT))
    fleet.valkey.start()


@fault
def valkey_killed_with_its_data(fleet: Fleet, chance: random.Random) -> None:
    fleet.kill_valkey_for_good()
    time.sleep(chance.uniform(*SHORT))
    fleet.valkey.start()


@fault
def postgres_killed(fleet: Fleet, chance: random.Random) -> None:
    fleet.kill_postgres()
    time.sleep(chance.uniform(*SHORT))
    postgres_again(fleet)


@fault
def two_at_once(fleet: Fleet, chance: random.Random) -> None:
    """Two of what may be killed, the second while the first is not mended."""
    first, second = chance.sample(
        [trainer_killed, worker_killed, dispatcher_killed, valkey_killed_with_its_data, postgres_killed], 2
    )
    if postgres_killed in (first, second):
        other = second if first is postgres_killed else first
        fleet.kill_postgres()
        other(fleet, chance)
        postgres_again(fleet)
    elif worker_killed in (first, second):
        host = chance.choice(fleet.hosts)
        fleet.kill(host.process)
        (second if first is worker_killed else first)(fleet, chance)
        fleet.start_worker(host)
    else:
        fleet.kill_valkey_for_good()
        for each in (first, second):
            if each is not valkey_killed_with_its_data:
                each(fleet, chance)
        fleet.valkey.start()


def postgres_again(fleet: Fleet) -> None:
    """As its owner does; one that is still being put in order says so, and is started once more."""
    for _ in range(5):
        with contextlib.suppress(EmbeddedError, subprocess.SubprocessError):
            fleet.restart_postgres()
            return
        time.sleep(1)
    fleet.restart_postgres()


@fault
def power_cut(fleet: Fleet, chance: random.Random) -> None:
    """Everything is killed within a moment, and started again."""
    for process in list(fleet.processes):
        fleet.kill(process)
    fleet.dispatchers.clear()
    fleet.kill_valkey()
    fleet.kill_postgres()
    postgres_again(fleet)
    fleet.valkey.start()
    for host in fleet.hosts:
        fleet.start_worker(host)
    for _ in range(2):
        fleet.start_dispatcher()


# -- frozen ----------------------------------------------------------------------------------------
@fault
def worker_stopped(fleet: Fleet, chance: random.Random) -> None:
    """SIGSTOP for longer than the lease, then SIGCONT: not one more byte may come of the attempt that it held."""
    host = chance.choice(fleet.hosts)
    held = _held_by(fleet, host)
    os.kill(host.pid, signal.SIGSTOP)
    if not held:
        time.sleep(chance.uniform(*LONG))
        os.kill(host.pid, signal.SIGCONT)
        return
    attempt, run, number = held[0]
    until(lambda: _is_over(fleet, attempt), LEASE_SECONDS + 60)
    children = fleet.remember_children(host.pid)
    before = what_an_attempt_wrote(fleet, run, number)
    time.sleep(chance.uniform(0, 1))
    nothing_more(before, what_an_attempt_wrote(fleet, run, number))
    os.kill(host.pid, signal.SIGCONT)
    # Its trainer, which trained on all the while, is ended at once …
    folder = host.home / "work" / f"{run}-{number}"
    until(lambda: not folder.exists(), 60)
    until(lambda: not any(alive(child) and _works_in(child, folder.name) for child in children), 30)
    # … and nothing of what it did has come through.
    nothing_more(before, what_an_attempt_wrote(fleet, run, number))


def _held_by(fleet: Fleet, host: Host) -> list[tuple[int, int, int]]:
    query = (
        "SELECT a.id, a.run_id, a.number FROM runs_attempt a JOIN runs_worker w ON w.id = a.worker_id "
        "WHERE w.name LIKE %s AND a.finished_at IS NULL"
    )
    return [(int(a), int(b), int(c)) for a, b, c in fleet.rows(query, f"%:{host.home}%")]


def _is_over(fleet: Fleet, attempt: int) -> bool:
    return bool(fleet.rows("SELECT 1 FROM runs_attempt WHERE id = %s AND finished_at IS NOT NULL", attempt))


def _works_in(pid: int, name: str) -> bool:
    """Whether a process has a file of this folder open."""
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            if name in str(link.readlink()):
                return True
    return False


Trace = tuple[dict[str, tuple[int, int]], list[tuple[object, ...]], list[tuple[object, ...]]]


def nothing_more(before: Trace, after: Trace) -> None:
    """Files may have gone meanwhile, as its successor needs them no more; none may be new or different."""
    assert after[0].items() <= before[0].items(), f"a fenced worker has stored {after[0]}, before {before[0]}"
    assert after[1:] == before[1:], f"a fenced worker has written {after[1:]}, before {before[1:]}"


def what_an_attempt_wrote(fleet: Fleet, run: int, number: int) -> Trace:
    """Every trace of it: its files in storage with size and time, its events, its row."""
    mine = (f"-{number}/", f"attempt-{number}/", f"attempt-{number}.")
    files = {}
    for path in (fleet.home / "storage" / "runs" / str(run)).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # its successor tidies
            key = path.relative_to(fleet.home / "storage").as_posix()
            if path.is_file() and any(part in key for part in mine):
                files[key] = (path.stat().st_size, path.stat().st_mtime_ns)
    row = fleet.rows(
        "SELECT events_offset, lease_until, outcome, finished_at, resumed_from_step, md5(log_tail) "
        "FROM runs_attempt WHERE run_id = %s AND number = %s",
        run,
        number,
    )
    events = fleet.rows(
        "SELECT id, message FROM runs_event WHERE run_id = %s AND attempt = %s AND kind <> 'lost' ORDER BY id",
        run,
        number,
    )
    return files, row, events


# -- cut off ---------------------------------------------------------------------------------------
def _disturb(link: Link, chance: random.Random, *states: str) -> None:
    link.become(chance.choice(states))
    time.sleep(chance.uniform(*chance.choice([SHORT, SHORT, LONG])))
    link.become("open")


@fault
def database_unreachable(fleet: Fleet, chance: random.Random) -> None:
    """From one worker, for less or for longer than its lease."""
    _disturb(chance.choice(fleet.hosts).database, chance, "cut", "silent", "half_open")


@fault
def broker_unreachable(fleet: Fleet, chance: random.Random) -> None:
    _disturb(chance.choice(fleet.hosts).broker, chance, "cut", "silent", "half_open")


@fault
def network_slow(fleet: Fleet, chance: random.Random) -> None:
    """Each answer takes its time, from database and broker alike."""
    host = chance.choice(fleet.hosts)
    for link in (host.database, host.broker):
        link.become("slow")
    time.sleep(chance.uniform(*LONG))
    for link in (host.database, host.broker):
        link.become("open")


@fault
def host_unplugged(fleet: Fleet, chance: random.Random) -> None:
    """From everything at once, longer than its lease."""
    host = chance.choice(fleet.hosts)
    state = chance.choice(["cut", "silent", "half_open"])
    for link in (host.database, host.broker):
        link.become(state)
    time.sleep(chance.uniform(*LONG))
    for link in (host.database, host.broker):
        link.become("open")


# -- clocks ----------------------------------------------------------------------------------------
HOUR = 3600


@fault
def clock_of_a_worker_steps(fleet: Fleet, chance: random.Random) -> None:
    fleet.step_clock(chance.choice(fleet.hosts).clock, chance.choice([-HOUR, 0, HOUR]))


@fault
def clock_of_the_dispatchers_steps(fleet: Fleet, chance: random.Random) -> None:
    fleet.step_clock(fleet.home / "dispatcher-clock", chance.choice([-HOUR, 0, HOUR]))


# -- messages --------------------------------------------------------------------------------------
@fault
def message_twice_late_or_never(fleet: Fleet, chance: random.Random) -> None:
    """While no worker can hear: what waits in the queue is doubled, or taken away, and all of it comes late."""
    for host in fleet.hosts:
        host.broker.become("silent")
    fleet.ask(kind="scripted", settings={"steps": 8, "delay": 0.02, "checkpoint_every": 3, "seed": 5})
    broker = redis.Redis.from_url(fleet.valkey.url)
    waiting = broker.lrange("cpu", 0, -1)
    if chance.random() < 0.5:
        broker.delete("cpu")
    else:
        for message in waiting:
            broker.lpush("cpu", *[message] * chance.randrange(1, 30))
    time.sleep(chance.uniform(*SHORT))
    for host in fleet.hosts:
        host.broker.become("open")
    for message in waiting:  # long after it was of any use
        broker.lpush("cpu", message)
    broker.close()


@fault
def dispatchers_race(fleet: Fleet, chance: random.Random) -> None:
    """Five dispatchers, and so five reapers, find the same attempt without a worker."""
    while len(fleet.dispatchers) < 5:
        fleet.start_dispatcher()
    host = chance.choice(fleet.hosts)
    fleet.kill(host.process)
    time.sleep(chance.uniform(*LONG))
    fleet.start_worker(host)


@fault
def web_killed(fleet: Fleet, chance: random.Random) -> None:
    """The web server, and its process that serves."""
    assert fleet.web is not None
    os.killpg(fleet.web.pid, signal.SIGKILL)
    fleet.kill(fleet.web)
    time.sleep(chance.uniform(0, 1))
    fleet.start_web()
