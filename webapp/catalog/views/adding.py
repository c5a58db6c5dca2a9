"""Adding to the catalogue: a model of a hub, or a folder on this host."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts.access import editor_required
from webapp.catalog import folders, hub
from webapp.catalog.configs import Unusable
from webapp.catalog.models import BaseModel
from webapp.requests import Request


@require_POST
@editor_required
def add_hub_model(request: Request) -> HttpResponse:
    try:
        model = hub.add(request.POST.get("repository", ""), workspace=request.workspace)
    except Unusable as reason:
        messages.error(request, str(reason))
        return redirect("catalog:list")
    messages.success(request, f"{model.name} is in the catalogue, pinned to commit {model.revision[:12]}.")
    return redirect("catalog:detail", slug=model.slug)


@require_http_methods(["GET", "POST"])
def add_folder(request: Request) -> HttpResponse:
    """For admins alone: a path names any folder that this server can read."""
    if not request.user.is_superuser:
        raise PermissionDenied("Only an admin of this installation may add folders of the host.")
    if request.method == "GET":
        return render(request, "catalog/add_folder.html")
    path, name = request.POST.get("path", ""), request.POST.get("name", "")
    try:
        model = folders.add_folder(path, name=name)
    except Unusable as reason:
        return render(
            request,
            "catalog/add_folder.html",
            {"path": path, "name": name, "problem": str(reason)},
            status=422,
        )
    messages.success(request, f"{model.name} is in the catalogue.")
    return redirect("catalog:detail", slug=model.slug)


@require_POST
@editor_required
def remove(request: Request, slug: str) -> HttpResponse:
    """Take an added model out again, unless a run came from it."""
    model = get_object_or_404(BaseModel.objects.visible_to(request.user), slug=slug)
    mine = model.workspace_id == request.workspace.pk or (
        model.workspace is None and request.user.is_superuser
    )
    if model.source == BaseModel.Source.STARTER or not mine:
        raise PermissionDenied("This model belongs to the catalogue of everybody.")
    if model.runs.exists():
        messages.error(request, f"{model.name} stays: runs were made from it, and their pages name it.")
        return redirect("catalog:detail", slug=slug)
    model.delete()
    messages.success(request, f"{model.name} is no longer in the catalogue.")
    return redirect("catalog:list")
