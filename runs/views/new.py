"""A new run: choose, check, launch."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from runs.choosing import Choosing
from runs.launch import LaunchError, launch
from webapp.accounts.access import editor_required
from webapp.requests import Request


@require_http_methods(["GET", "POST"])
@editor_required
def new(request: Request) -> HttpResponse:
    """GET shows the form, prefilled by its address; POST with `step` shows it for the choices; POST launches.

    Without JavaScript a task or method can be chosen and sent at once: its settings are shown first.
    """
    if request.method == "GET":
        return _show(request, Choosing(request, request.GET))
    choosing = Choosing(request, request.POST)
    if "step" in request.POST:
        return _show(request, choosing)
    if choosing.is_unseen:
        return _show(request, choosing, is_new_to_them=True)
    choosing = Choosing(request, request.POST, launching=True)
    if not choosing.is_valid():
        return _show(request, choosing)
    assert choosing.model and choosing.version and choosing.task and choosing.method
    assert choosing.columns_form and choosing.settings_form
    try:
        run = launch(
            workspace=request.workspace,
            user=request.user,
            base_model=choosing.model,
            version=choosing.version,
            task=choosing.task.slug,
            columns=choosing.columns_form.chosen(),
            method=choosing.method.slug,
            settings=choosing.settings_form.chosen(),
            name=choosing.name_form.cleaned_data["name"],
            scheduling=choosing.when_form.chosen(),
            made_from=choosing.again,
            **choosing.spread_form.chosen(),
        )
    except LaunchError as refused:
        choosing.refuse(str(refused), refused.fields)
        return _show(request, choosing)
    return redirect("runs:detail", pk=run.pk)


def _show(request: Request, choosing: Choosing, *, is_new_to_them: bool = False) -> HttpResponse:
    page = "runs/new.html#form" if request.htmx else "runs/new.html"
    return render(request, page, {"choosing": choosing, "is_new_to_them": is_new_to_them})
