"""What `manage.py up` relies on: children run, are started again, and are all gone in the end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from webapp.supervisor import Supervisor

PYTHON = (sys.executable, "-u", "-c")


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.stopping.set()
    made.stop(5)


def running(supervisor: Supervisor) -> threading.Thread:
    thread = threading.Thread(target=supervisor.run, daemon=True)
    thread.start()
    return thread


def test_lines_carry_the_name_of_who_said_them(
    supervisor: Supervisor, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = tmp_path / "said"
    program = f"import time; print('hello'); print('caf\\xe9'); open({str(said)!r}, 'w'); time.sleep(60)"
    supervisor.add("one", (*PYTHON, program), os.environ)
    thread = running(supervisor)
    wait_for(said.exists)
    supervisor.stopping.set()
    thread.join(10)
    supervisor.stop(5)
    lines = capfd.readouterr().out.splitlines()
    assert "one        | hello" in lines and "one        | café" in lines


def test_who_dies_is_started_again(
    supervisor: Supervisor, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    program = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(3)"
    supervisor.add("weak", (*PYTHON, program), os.environ)
    running(supervisor)
    wait_for(lambda: starts.exists() and len(starts.read_text()) >= 2)
    assert "weak ended (exit status 3); starting it again in 0.5 s." in capfd.readouterr().out


def test_what_the_dead_leave_behind_is_ended_before_they_start_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'a').write(f'{{child.pid}}\\n')\n"
        "raise SystemExit(1)\n"
    )
    supervisor.add("weak", (*PYTHON, program), os.environ)
    thread = running(supervisor)
    wait_for(lambda: pids.exists() and pids.read_text().count("\n") >= 2)
    left = [int(pid) for pid in pids.read_text().split()]
    wait_for(lambda: not alive(left[0]))
    supervisor.stopping.set()
    thread.join(10)
    supervisor.stop(5)
    wait_for(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_the_pause_grows_while_somebody_keeps_dying(supervisor: Supervisor) -> None:
    supervisor.add("weak", (*PYTHON, "raise SystemExit(1)"), os.environ)
    running(supervisor)
    wait_for(lambda: supervisor.children[0].pause >= 2)


def test_all_are_gone_in_the_end_the_stubborn_and_their_children_too(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    stubborn = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    supervisor.add("stubborn", (*PYTHON, stubborn), os.environ)
    supervisor.add("polite", (*PYTHON, "import time; time.sleep(600)"), os.environ)
    thread = running(supervisor)
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    found = [int(pid) for pid in pids.read_text().split()]
    polite = supervisor.children[1].process
    assert polite is not None and all(alive(pid) for pid in [*found, polite.pid])
    supervisor.stopping.set()
    thread.join(10)
    supervisor.stop(0.5)
    wait_for(lambda: not any(alive(pid) for pid in [*found, polite.pid]))


def test_nobody_is_started_again_while_it_stops(supervisor: Supervisor) -> None:
    supervisor.add("one", (*PYTHON, "import time; time.sleep(600)"), os.environ)
    thread = running(supervisor)
    wait_for(lambda: supervisor.children[0].process is not None)
    supervisor.stopping.set()
    thread.join(10)
    supervisor.stop(5)
    process = supervisor.children[0].process
    assert process is not None and process.returncode is not None
