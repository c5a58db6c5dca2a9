"""Speaks the trainer's protocol (docs/architecture.md) and does what the run's settings script.

    steps, delay        how many steps, seconds each
    checkpoint_every    steps between checkpoints; 0: none
    best                the step of the best one
    die                 {attempt: {"step": n, "how": "SIGKILL" | "SIGSEGV" | "exit" | "failed" | "fill"}}
    deaf                ignores SIGTERM
    say                 text for the log
    child               starts a child process that would live on

Its "weights" are a digest chained over all steps: they come out right only if no step was skipped,
done twice, or begun from the wrong state.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

KEEP = 2


def main() -> None:
    workdir = Path(sys.stdin.readline().strip())
    sys.argv.append(str(workdir / "events.jsonl"))
    if not workdir.name:
        sys.exit(0)
    threading.Thread(target=watch_worker, daemon=True).start()
    log = (workdir / "log.txt").open("w")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    spec = json.loads((workdir / "spec.json").read_text())
    settings = spec["settings"]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if settings.get("deaf") else stop.set())
    death = settings.get("die", {}).get(str(spec["attempt"]), {})
    print(
        settings.get("say", ""), f"\x00 attempt {spec['attempt']}", json.dumps(dict(os.environ)), flush=True
    )
    if settings.get("child"):
        child = subprocess.Popen(["sleep", "300"])
        (Path(settings["child"])).write_text(str(child.pid))
    events = (workdir / "events.jsonl").open("ab", buffering=0)

    def tell(type_: str, **values: object) -> None:
        line = json.dumps({"type": type_, "at": time.time(), **values}).encode() + b"\n"
        half = len(line) // 2  # a reader may see half a line at any time
        events.write(line[:half])
        events.write(line[half:])

    step, state, kept, best = 0, str(settings["seed"]), [], []
    if spec["resume_from"]:
        found = json.loads((Path(spec["resume_from"]) / "state.json").read_text())
        step, state = found["step"], found["state"]
        kept = [step]
    steps = settings.get("steps", 10)
    tell("phase", phase="training", message="Training")
    while step < steps:
        step += 1
        time.sleep(settings.get("delay", 0))
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
        tell("progress", step=step, total_steps=steps, epoch=step / steps, rate=5.0, eta_seconds=1.0)
        tell("metric", step=step, values={"loss": int(state[:6], 16), "bad": None})
        if (settings.get("checkpoint_every") and step % settings["checkpoint_every"] == 0) or stop.is_set():
            kept = [*kept, step][-KEEP:]
            best = [step] if step == settings.get("best") else best
            save(workdir, step, state, [*best, *kept])
            tell(
                "checkpoint",
                step=step,
                path=f"checkpoints/checkpoint-{step}",
                is_best=step == settings.get("best"),
                keep=[*best, *kept],
            )
        if stop.is_set():
            tell("stopped", step=step)
            sys.exit(3)
        if death.get("step") == step:
            if death["how"] == "failed":
                tell("failed", code="diverged", message="The loss is NaN.", hint="Lower the learning rate.")
                sys.exit(1)
            if death["how"] == "fill":  # the disk, to the last byte
                with (workdir / "ballast").open("wb", buffering=0) as ballast:
                    try:
                        while ballast.write(bytes(1 << 12)):
                            pass
                    except OSError:
                        sys.exit(1)
            if death["how"] == "exit":
                sys.exit(7)
            os.kill(os.getpid(), getattr(signal, death["how"]))
            time.sleep(60)
    folder = workdir / "artifacts"
    (folder / "sub").mkdir(parents=True)
    files = []
    for name, text in (("weights.txt", state), ("sub/config.json", "{}")):
        (folder / name).write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        files.append({"name": name, "size": len(text), "sha256": digest})
    if settings.get("lie"):
        files[0]["sha256"] = "0" * 64
    tell("artifacts", folder="artifacts", files=files)
    tell("done", metrics={"accuracy": 0.5})
    sys.exit(0)


def save(workdir: Path, step: int, state: str, kept: list[int]) -> None:
    folder = workdir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(json.dumps({"step": step, "state": state}))
    for other in folder.parent.iterdir():
        if int(other.name.split("-")[1]) not in kept:
            shutil.rmtree(other)


def watch_worker() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:  # told as the real one tells it, if the disk takes another line
        print(error, flush=True)
        if error.errno != errno.ENOSPC:
            raise
        told = {
            "type": "failed",
            "at": time.time(),
            "code": "disk_full",
            "message": "Full.",
            "hint": "Free space.",
        }
        with contextlib.suppress(OSError), Path(sys.argv[-1]).open("ab") as events:
            events.write(b"\n" + json.dumps(told).encode() + b"\n")
        sys.exit(1)
