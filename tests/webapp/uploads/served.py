"""A web server of its own on the database of the tests: what is sent to it goes through a real connection."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from django.db import connection

ROOT = Path(__file__).resolve().parents[3]
BYTES = "application/offset+octet-stream"


class Served:
    """`manage.py serve` as people run it; can be killed and started again on the same port."""

    def __init__(self, home: Path, token: str) -> None:
        self.home, self.token = home, token
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        server = os.environ["DATABASE_URL"].rpartition("/")[0]
        environment = {
            **os.environ,
            "DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}",
            "STORAGE_URL": str(self.home / "storage"),
            "TUNEBOARD_HOME": str(self.home),
            "TUNEBOARD_PORT": str(self.port),
        }
        with (self.home / "web.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("OPTIONS", "/api/v1/uploads").status == 204:
                    return
            time.sleep(0.1)
        raise AssertionError((self.home / "web.log").read_text()[-3000:])

    def kill(self) -> None:
        """As the kernel does: without a word, the server and its worker process."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def pids(self) -> list[int]:
        """Of the processes that serve."""
        import psutil

        assert self.process is not None
        main = psutil.Process(self.process.pid)
        return [main.pid, *(child.pid for child in main.children(recursive=True))]

    def ask(
        self, method: str, path: str, body: object = None, port: int = 0, **headers: str
    ) -> http.client.HTTPResponse:
        """One request on a connection of its own; `body` may be a file or an iterable of bytes."""
        talk = http.client.HTTPConnection("localhost", port or self.port, timeout=30)
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        said |= {"Authorization": f"Bearer {self.token}", "Tus-Resumable": "1.0.0"}
        talk.request(method, path, body, said)  # type: ignore[arg-type]
        answer = talk.getresponse()
        answer.read()
        talk.close()
        return answer

    def announce(self, length: int, port: int = 0) -> str:
        answer = self.ask("POST", "/api/v1/uploads", b"", port, Upload_Length=str(length))
        return str(answer.headers["Location"])

    def offset(self, address: str, port: int = 0) -> int:
        return int(self.ask("HEAD", address, None, port).headers["Upload-Offset"])

    def send(self, address: str, offset: int, body: object, length: int, port: int = 0) -> int:
        """Status of the answer."""
        said = {"Upload_Offset": str(offset), "Content_Type": BYTES, "Content_Length": str(length)}
        return self.ask("PATCH", address, body, port, **said).status
