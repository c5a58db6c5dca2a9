"""Hosts over HTTP: what the pages show, and draining."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema

from runs.execution import admission
from runs.fleet import Host, all_hosts
from runs.models import Run, Worker
from webapp.api import ERRORS, ApiError

router = Router(tags=["hosts"])


class DeviceOut(Schema):
    """A GPU and its newest values: bytes, use from 0 to 1, °C, watts; null where it does not say."""

    index: int
    uuid: str = ""
    name: str = ""
    memory_bytes: int | None = None
    memory_used: int | None = None
    utilisation: float | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    error: str | None = None


class HostNowOut(Schema):
    """The newest values of the host itself."""

    cpu: float | None = None
    memory_bytes: int | None = None
    memory_used: int | None = None
    load: float | None = None
    disk_bytes: int | None = None
    disk_free: int | None = None


class HeldOut(Schema):
    """What runs there. `run` and `name` are null where it is of another workspace than the token's.

    `devices`: the indexes of the GPUs that it has of this host; `host_rank`: which of the run's hosts this is, from 0.
    """

    run: int | None
    name: str | None
    attempt: int
    devices: list[int]
    host_rank: int
    started_at: datetime
    lease_until: datetime


class HostOut(Schema):
    """A worker and its host. `state`: online, leaving, draining, drained, refused or offline; `why` explains it."""

    id: int
    name: str
    host: str
    state: str
    why: str
    queues: list[str]
    slots: int
    busy: int
    free: int
    devices: list[DeviceOut]
    now: HostNowOut
    cpus: int
    memory_bytes: int
    versions: dict[str, str]
    other_version: str
    cost_per_hour: float | None
    runs: list[HeldOut]
    started_at: datetime
    last_seen_at: datetime


def _out(host: Host) -> dict[str, Any]:
    worker = host.worker
    row = {name: getattr(worker, name) for name in HostOut.model_fields if hasattr(worker, name)}
    own = {name: getattr(host, name) for name in HostOut.model_fields if hasattr(host, name)}
    runs = [
        {
            "run": held.run.pk if held.run else None,
            "name": held.run.name if held.run else None,
            "attempt": held.number,
            "devices": list(held.devices),
            "host_rank": held.rank,
            "started_at": held.started_at,
            "lease_until": held.lease_until,
        }
        for held in host.held
    ]
    return {**row, **own, "id": worker.pk, "devices": host.devices, "runs": runs}


def _one(request: Any, host: int) -> dict[str, Any]:
    worker = get_object_or_404(Worker, pk=host)
    return _out(all_hosts(Run.objects.filter(workspace=request.auth.workspace), [worker])[0])


def _require_admin(request: Any) -> None:
    if not request.auth.user.is_superuser:
        raise ApiError(403, "forbidden", "Only an admin of this installation may change its hosts.")


@router.get("", response={200: list[HostOut], **ERRORS}, summary="List hosts")
def list_hosts(request: HttpRequest) -> Any:
    """Every worker, those online first: devices with their newest values, slots, versions, what runs there."""
    visible = Run.objects.filter(workspace=request.auth.workspace)  # type: ignore[attr-defined]
    return [_out(host) for host in all_hosts(visible)]


@router.get("/{int:host}", response={200: HostOut, **ERRORS}, summary="One host")
def one_host(request: HttpRequest, host: int) -> Any:
    """The same of one."""
    return _one(request, host)


@router.post("/{int:host}/drain", response={200: HostOut, **ERRORS}, summary="Drain a host")
def drain_host(request: HttpRequest, host: int) -> Any:
    """It finishes the runs that it has and takes no more. For admins; asking twice is asking once."""
    _require_admin(request)
    admission.drain(get_object_or_404(Worker, pk=host))
    return _one(request, host)


@router.post("/{int:host}/resume", response={200: HostOut, **ERRORS}, summary="Have a host take runs again")
def resume_host(request: HttpRequest, host: int) -> Any:
    """The end of draining. For admins."""
    _require_admin(request)
    admission.take_up(get_object_or_404(Worker, pk=host))
    return _one(request, host)
