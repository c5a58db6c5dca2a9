"""The training program as a child process: warm, in its own session, with a reduced environment.

docs/architecture.md has the protocol. It is told its work folder on standard input; the end of that
pipe, which comes when this process dies in whatever way, makes it kill its own process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

# All that a trainer gets to know of the worker's environment: no address, no secret but a hub token.
KEPT = {
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("XDG_CACHE_HOME", "TOKENIZERS_PARALLELISM", "PYTHONDONTWRITEBYTECODE"),
}
KEPT_PREFIXES = ("LC_", "HF_", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "OMP_", "MKL_", "TORCH_", "PYTORCH_")


def reduced_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a trainer gets to see. Which GPUs are its own, its run's spec says."""
    kept = {
        name: value for name, value in environment.items() if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
    # As nvidia-smi counts; CUDA's own order is by speed.
    return kept | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTHONUNBUFFERED": "1"}


class Trainer:
    """One process that trains once. Used by one thread, but for `kill`, which any may call."""

    def __init__(self) -> None:
        command = settings.TRAINER_COMMAND or [sys.executable, "-m", "runs.training", "--wait"]
        self._early_output = tempfile.TemporaryFile()  # noqa: SIM115 – until it turns to its own log
        self._lock = threading.Lock()
        self._status: int | None = None
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # our end is close-on-exec: no other child keeps it open
            stdout=self._early_output,
            stderr=subprocess.STDOUT,
            cwd=settings.ROOT,
            env=reduced_environment(os.environ),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def train(self, workdir: Path) -> None:
        """Hand over the work folder. A trainer that has died meanwhile shows in `status`."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{workdir}\n".encode())
            self.process.stdin.flush()

    def stop(self) -> None:
        """Ask it to save and leave."""
        with self._lock:
            if self._status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGTERM)

    def status(self) -> int | None:
        """None while it runs; then its exit status, or minus the signal that ended it.

        What is left of its process group is killed before the leader's process id is given up, as
        the id could name somebody else's group after that.
        """
        with self._lock:
            if self._status is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                self._kill_group()
                self._status = self.process.wait()
                self._close()
            return self._status

    def kill(self) -> None:
        """End the whole process group now, and wait until its leader is gone."""
        with self._lock:
            if self._status is None:
                self._kill_group()
                self._status = self.process.wait()
                self._close()

    def early_output(self) -> str:
        """What it said before it opened its log: why it could not start."""
        if self._early_output.closed:
            return self._said
        size = self._early_output.seek(0, os.SEEK_END)
        self._early_output.seek(max(0, size - 20_000))
        return self._early_output.read().decode(errors="replace")

    _said = ""

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self._said = self.early_output()
        self._early_output.close()


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory, in this control group and on this host."""
    found = 0
    files = [Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")]
    with contextlib.suppress(OSError):
        own = Path("/proc/self/cgroup").read_text().split("::", 1)[-1].strip().lstrip("/")
        files.append(Path("/sys/fs/cgroup") / own / "memory.events")
    for file in dict.fromkeys(files):
        with contextlib.suppress(OSError):
            for line in file.read_text().splitlines():
                name, _, count = line.partition(" ")
                found += int(count) if name == "oom_kill" else 0
    return found
