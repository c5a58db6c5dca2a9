"""What each workspace may take of the workers: seen and set by site administrators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count
from django.db.models.functions import Lower
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from webapp.accounts.access import superuser_required
from webapp.accounts.forms import LimitsForm
from webapp.accounts.models import Workspace
from webapp.requests import Request

A_PAGE = 20


def _page(request: Request, wrong: LimitsForm | None = None, status: int = 200) -> HttpResponse:
    found = Workspace.objects.annotate(people=Count("memberships")).order_by(Lower("name"), "pk")
    page = Paginator(found, A_PAGE).get_page(request.GET.get("page"))
    rows = [
        (place, wrong if wrong and wrong.instance.pk == place.pk else _form(place))
        for place in page.object_list
    ]
    return render(request, "accounts/limits.html", {"page": page, "rows": rows}, status=status)


def _form(place: Workspace, data: Mapping[str, Any] | None = None) -> LimitsForm:
    return LimitsForm(data, instance=place, prefix=f"w{place.pk}")


@require_GET
@superuser_required
def limits(request: Request) -> HttpResponse:
    return _page(request)


@require_POST
@superuser_required
def set_limits(request: Request, pk: int) -> HttpResponse:
    """The limits of one workspace; runs that run already go on."""
    place = get_object_or_404(Workspace, pk=pk)
    form = _form(place, request.POST)
    if not form.is_valid():
        place.refresh_from_db()
        return _page(request, form, 422)
    form.save()
    messages.success(request, f"The limits of {place.name} count from now on.")
    return redirect("accounts:limits")
