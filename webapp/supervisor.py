"""Keeps a set of child processes running and shows what they print, each line with its name in front.

`manage.py up` is its only caller. A child that dies is started again after a pause that grows to half
a minute while it keeps dying. Each child leads a process group of its own, so that a Ctrl-C in the
terminal reaches this process alone and the children are stopped in order, last started first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

COLOURS = (36, 33, 35, 32, 34, 31)
STEADY_SECONDS = 20.0  # who has run this long has started well
LONGEST_PAUSE = 30.0


@dataclass
class Child:
    """What to run and how it has fared."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    colour: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.5
    start_at: float = 0.0
    readers: list[threading.Thread] = field(default_factory=list)


class Supervisor:
    """Starts children, restarts those that die, stops all of them."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.checks: list[Callable[[], None]] = []  # called about once a second
        self.stopping = threading.Event()
        self._print_lock = threading.Lock()
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def add(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """A child to run from now on."""
        colour = COLOURS[len(self.children) % len(COLOURS)]
        self.children.append(Child(name, command, environment, colour))

    def say(self, text: str, name: str = "tuneboard", colour: int = 1) -> None:
        """Print lines with a name in front."""
        with self._print_lock:
            for line in text.splitlines():
                head = f"{name:<10} | "
                sys.stdout.write(
                    f"\033[{colour}m{head}\033[0m{line}\n" if self._colours else f"{head}{line}\n"
                )
            sys.stdout.flush()

    def run(self) -> None:
        """Keep everything running until `stopping` is set; then return. `stop` ends the children."""
        try:
            while not self.stopping.is_set():
                for child in self.children:
                    self._look_after(child)
                for check in self.checks:
                    check()
                self.stopping.wait(0.5)
        finally:
            self.stopping.set()

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            code = _ended(child.process)
            if code is None:
                if now - child.started > STEADY_SECONDS:
                    child.pause = 0.5
                return
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            self.say(f"{child.name} ended ({how}); starting it again in {child.pause:g} s.")
            child.process, child.start_at = None, now + child.pause
            child.pause = min(child.pause * 2, LONGEST_PAUSE)
        if now >= child.start_at:
            self._start(child)

    def _start(self, child: Child) -> None:
        child.process = subprocess.Popen(
            list(child.command),
            env=dict(child.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        child.started = time.monotonic()
        reader = threading.Thread(target=self._show, args=(child, child.process), daemon=True)
        reader.start()
        child.readers = [old for old in child.readers if old.is_alive()] + [reader]

    def _show(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.say(line.decode(errors="replace").rstrip("\n") or " ", child.name, child.colour)

    def stop(self, grace: float) -> None:
        """SIGTERM to each child, last started first; SIGKILL to the group of whoever lingers."""
        for child in reversed(self.children):
            if child.process is None:
                continue
            child.process.terminate()
            try:
                child.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.say(f"{child.name} does not stop; it is killed.")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
        for child in self.children:
            for reader in child.readers:
                reader.join(1)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit status, or None while it runs. What it leaves of its group is killed: it would hold ports.

    Before its process id is given up, as that could name another group afterwards.
    """
    if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()
