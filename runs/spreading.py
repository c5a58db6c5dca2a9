"""On how many devices and hosts a run trains: the choice in the form, its checks, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms

from runs.execution.pool import gpus_of
from runs.models import Run, Worker
from runs.training.tasks.common import Method

DEVICES = (1, 2, 4, 8)
MOST_HOSTS = 64
ALONE = {"head"}  # methods that train without gradients, so that there is nothing to share
STRATEGIES = {
    "ddp": "Whole model on each (DDP)",
    "fsdp2": "Model shared out (FSDP2)",
}
WHEN = {
    "ddp": "Each device has the whole model and its own rows; the quickest wherever the model fits on one device.",
    "fsdp2": "Each device keeps a part of weights, gradients and optimiser: for models that do not fit on one. "
    "It sends more between devices, so it wants a fast connection.",
}


@dataclass(frozen=True)
class Spread:
    """Where the processes of a run are."""

    devices: int = 1  # on each host
    hosts: int = 1
    strategy: str = ""  # "" for one process

    @property
    def processes(self) -> int:
        return self.devices * self.hosts


def checked(
    method: Method, devices: Any, hosts: Any, strategy: str, settings: Mapping[str, Any] | None = None
) -> tuple[Spread, dict[str, str]]:
    """(what was chosen, a sentence for each field that has to change)"""
    wrong: dict[str, str] = {}
    if devices not in DEVICES:
        wrong["devices"] = "Choose 1, 2, 4 or 8 devices on each host."
    if not isinstance(hosts, int) or not 1 <= hosts <= MOST_HOSTS:
        wrong["hosts"] = f"Choose 1 to {MOST_HOSTS} hosts."
    if strategy and strategy not in STRATEGIES:
        wrong["strategy"] = f"Choose one of: {', '.join(STRATEGIES)}."
    if not wrong and devices * hosts > 1 and method.slug in ALONE:
        wrong["devices" if devices > 1 else "hosts"] = (
            f"“{method.title}” computes features once, on one device: there is nothing to share out. "
            "Choose 1 device and 1 host, or another method."
        )
    if strategy == "fsdp2" and (settings or {}).get("ema_decay"):
        wrong["strategy"] = (
            "Averaged weights need the whole model on each device: choose DDP, or no averaging of weights."
        )
    if wrong:
        return Spread(), wrong
    return Spread(devices, hosts, (strategy or "ddp") if devices * hosts > 1 else ""), {}


def spread_of(run: Run, method: str) -> dict[str, Any]:
    """Of a run that is made again, as `launch` takes it; one device where the new method has no work to share."""
    if method in ALONE:
        return {}
    return {"devices": run.processes, "hosts": run.nodes, "strategy": run.strategy}


def queue_for(devices: int, workers: Sequence[Worker]) -> str:
    """What a run of so many devices asks of a host, by the workers that are online: GPUs if any has one.

    Without GPUs its processes share the cores of one slot.
    """
    has_gpu = any(gpus_of(queue) for worker in workers for queue in worker.queues)
    return f"gpu{devices}" if has_gpu else "cpu"


def what_is_missing(spread: Spread, workers: Sequence[Worker]) -> str:
    """Why a run would wait for hosts that are not there now; empty if it would not."""
    queue = queue_for(spread.devices, workers)
    able = [worker for worker in workers if worker.slots and queue in worker.queues]
    if not workers or len(able) >= spread.hosts or spread.processes == 1:
        return ""
    gpus = gpus_of(queue)
    with_gpus = f" with {gpus} GPUs" if gpus > 1 else ""
    verb = "is" if len(able) < 2 else "are"
    return (
        f"{len(able) or 'No'} worker{'s' if len(able) > 1 else ''}{with_gpus} {verb} online: the run waits until "
        f"{spread.hosts} {'are' if spread.hosts > 1 else 'is'}, on hosts that reach each other."
    )


def batch_sentence(spread: Spread, values: Mapping[str, Any]) -> str:
    """How many rows an optimiser step takes, as a sum that one can follow; empty for one device."""
    batch, accumulation = values.get("per_device_train_batch_size"), values.get("gradient_accumulation_steps")
    if spread.processes == 1 or not isinstance(batch, int):
        return ""
    times = [f"{batch} a device", f"{spread.devices} device{'s' if spread.devices > 1 else ''}"]
    if spread.hosts > 1:
        times.append(f"{spread.hosts} hosts")
    total = batch * spread.processes
    if isinstance(accumulation, int) and accumulation > 1:
        times.append(f"{accumulation} accumulated")
        total *= accumulation
    return f"{total:,} rows ({' × '.join(times)})"


class SpreadForm(forms.Form):
    """Devices, hosts, and how they share the work."""

    devices = forms.TypedChoiceField(
        coerce=int,
        empty_value=1,  # type: ignore[arg-type]
        required=False,
        choices=[(count, str(count)) for count in DEVICES],
        label="Devices on each host",
        help_text="GPUs; where no host has any, processes that share its cores.",
        error_messages={"invalid_choice": "Choose 1, 2, 4 or 8 devices on each host."},
    )
    hosts = forms.IntegerField(
        min_value=1,
        max_value=MOST_HOSTS,
        required=False,
        label="Hosts",
        help_text="They start together once enough are free, and have to reach each other over the network.",
    )
    strategy = forms.ChoiceField(
        required=False,
        choices=list(STRATEGIES.items()),
        label="How they share the work",
        help_text=f"DDP: {WHEN['ddp'][0].lower()}{WHEN['ddp'][1:]} FSDP2: {WHEN['fsdp2'][0].lower()}{WHEN['fsdp2'][1:]}",
    )

    def __init__(self, data: Any, *, initial: Mapping[str, Any] | None = None) -> None:
        super().__init__(
            data, prefix="spread", initial={"devices": 1, "hosts": 1, "strategy": "ddp", **(initial or {})}
        )

    def chosen(self) -> dict[str, Any]:
        """Of a valid form, as `launch` takes it."""
        found = self.cleaned_data
        return {
            "devices": found.get("devices") or 1,
            "hosts": found.get("hosts") or 1,
            "strategy": found.get("strategy") or "",
        }

    def current(self) -> Spread:
        """What the fields hold now; one device where they hold nothing that can be used."""
        if self.is_bound:
            self.is_valid()
            values: Mapping[str, Any] = self.cleaned_data
        else:
            values = self.initial
        try:
            devices, hosts = int(values.get("devices") or 1), int(values.get("hosts") or 1)
        except (TypeError, ValueError):
            return Spread()
        strategy = str(values.get("strategy") or "ddp")
        return Spread(devices, hosts, strategy if devices * hosts > 1 else "")

    def current_for(self, method: Method | None) -> Spread:
        """As `current`; a method that cannot share its work has one device."""
        return Spread() if method is not None and method.slug in ALONE else self.current()

    @property
    def is_open(self) -> bool:
        """Whether something is chosen that is not the default, or wrong."""
        return bool(self.is_bound and self.errors) or self.current().processes > 1
