"""The hosts: who is there and what they do, live; and what an admin may ask of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from runs import charts
from runs.execution import admission, samples
from runs.execution.joining import joining
from runs.fleet import Host, all_hosts
from runs.models import Run, Worker
from webapp.polling import not_modified, tag_of_many, tagged
from webapp.requests import Request

HOURS = (1, 6, 24)


def admin_required(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Hosts belong to no workspace: what changes them is for admins of this installation."""

    @wraps(view)
    def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_superuser:
            raise PermissionDenied("Only an admin of this installation may change its hosts.")
        return view(request, *args, **kwargs)

    return checked


def _tag(request: Request, found: list[Host]) -> str:
    """Changes with every beat of a worker, and with what the reader may see of its runs."""
    seen = [
        (
            host.worker.pk,
            host.worker.last_seen_at,
            host.state,
            host.worker.cost_per_hour,
            [(held.title, held.number, held.devices, held.rank) for held in host.held],
        )
        for host in found
    ]
    return tag_of_many("hosts", request.user.pk, request.user.is_superuser, seen)


@require_GET
def host_list(request: Request) -> HttpResponse:
    found = all_hosts(Run.objects.visible_to(request.user))
    tag = _tag(request, found)
    if request.htmx and (unchanged := not_modified(request, tag)):
        return unchanged
    online = [host for host in found if host.state != "offline"]
    costs = [host.worker.cost_per_hour for host in online if host.worker.cost_per_hour is not None]
    context = {
        "tag": tag,
        "hosts": found,
        "online": len(online),
        "busy_line": f"{sum(host.busy for host in online)} of {sum(host.worker.slots for host in online)}",
        "gpus": sum(len(host.worker.devices) for host in online),
        "cost_line": f"{settings.CURRENCY}{sum(costs):,.2f}" if costs else "",
        "currency": settings.CURRENCY,
    }
    if request.htmx:
        return tagged(render(request, "hosts/list.html#rows", context), tag)
    if request.user.is_superuser:
        context["joining"] = joining()
    return tagged(render(request, "hosts/list.html", context), tag)


@require_GET
def detail(request: Request, pk: int) -> HttpResponse:
    worker = get_object_or_404(Worker, pk=pk)
    (host,) = all_hosts(Run.objects.visible_to(request.user), [worker])
    tag = _tag(request, [host])
    if request.htmx and (unchanged := not_modified(request, tag)):
        return unchanged
    context = {"tag": tag, "host": host, "worker": worker, "currency": settings.CURRENCY}
    if request.htmx:
        return tagged(render(request, "hosts/detail.html#live", context), tag)
    context |= {"hours": _hours(request), "choices": HOURS}
    return tagged(render(request, "hosts/detail.html", context), tag)


def _hours(request: Request) -> int:
    asked = request.GET.get("hours", "")
    return int(asked) if asked in {str(hours) for hours in HOURS} else HOURS[0]


@require_GET
def points(request: Request, pk: int) -> HttpResponse:
    """The samples of the last hours in buckets, or with `since=cpu:1700000000,…` only those after these seconds."""
    worker = get_object_or_404(Worker.objects.only("pk"), pk=pk)
    since = charts.parse_since(request.GET.get("since", ""))
    series = samples.points(worker.pk, _hours(request) * 3600, since)
    response = JsonResponse({"attempt": 0, "series": series})
    response["Cache-Control"] = "private, no-store"
    return response


@require_POST
@admin_required
def drain(request: Request, pk: int) -> HttpResponse:
    worker = get_object_or_404(Worker, pk=pk)
    admission.drain(worker)
    messages.success(request, f"{worker.host} finishes the runs that it has and takes no more.")
    return redirect("hosts:detail", pk=pk)


@require_POST
@admin_required
def resume(request: Request, pk: int) -> HttpResponse:
    worker = get_object_or_404(Worker, pk=pk)
    admission.take_up(worker)
    messages.success(request, f"{worker.host} takes runs again.")
    return redirect("hosts:detail", pk=pk)


@require_POST
@admin_required
def cost(request: Request, pk: int) -> HttpResponse:
    """Say what an hour costs; nothing: what the host's own setting says."""
    worker = get_object_or_404(Worker, pk=pk)
    text = request.POST.get("cost", "").strip().replace(",", ".")
    try:
        amount = float(text) if text else None
    except ValueError:
        amount = math.nan
    if amount is not None and not 0 <= amount < 1e6:
        messages.error(request, "What an hour costs is a number, such as 2.5, or left empty.")
    else:
        Worker.objects.filter(pk=pk).update(cost_edited=amount)
        messages.success(request, f"The cost of {worker.host} is saved.")
    return redirect("hosts:detail", pk=pk)


@require_POST
@admin_required
def remove(request: Request, pk: int) -> HttpResponse:
    worker = get_object_or_404(Worker, pk=pk)
    try:
        admission.remove(worker)
    except admission.NotOffline as refused:
        messages.error(request, str(refused))
        return redirect("hosts:detail", pk=pk)
    messages.success(request, f"{worker.host} is off the list. It comes back when its worker starts again.")
    return redirect("hosts:list")
