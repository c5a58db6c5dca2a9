"""Storage: what it holds, what goes by itself, what has gone; and keeping or deleting a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs import lifecycle
from runs.housekeeping import daily, orphans, overview, rules
from runs.housekeeping.deleting import delete_run, delete_runs, with_sizes
from runs.housekeeping.forms import RuleForm
from runs.housekeeping.keeping import keep_run
from runs.housekeeping.use import measure
from runs.listing import RunFilter
from runs.models import HousekeepingReport, Run
from runs.views.changing import run_to_change
from webapp import storage
from webapp.accounts.access import editor_required, owner_required
from webapp.accounts.models import Membership
from webapp.requests import Request

MOST_SHOWN = 200


def superuser_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For views about the whole site."""

    @wraps(view)
    def checked(request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
        if not request.user.is_superuser:
            raise PermissionDenied("Only an administrator of this Tuneboard may do this.")
        return view(request, *args, **kwargs)

    return checked


@require_GET
def page(request: Request) -> HttpResponse:
    return _page(request)


def _page(request: Request, form: RuleForm | None = None, status: int = 200) -> HttpResponse:
    context = {
        "page": overview.StoragePage(request.workspace, request.user),
        "form": form or RuleForm(instance=rules.rule_for(request.workspace)),
        "is_owner": request.role == Membership.Role.OWNER,
    }
    return render(request, "housekeeping/storage.html", context, status=status)


@require_GET
@owner_required
def preview(request: Request) -> HttpResponse:
    """What the rule of the form would remove now; nothing is saved yet."""
    form = RuleForm(request.GET)
    if not form.is_valid():
        return _page(request, form, 422)
    rule = form.rule()
    found = overview.Preview(rule, [request.workspace])
    context = {"form": form, "preview": found, "sentences": rules.sentences(rule), "most": MOST_SHOWN}
    return render(request, "housekeeping/preview.html", context)


@require_POST
@owner_required
def save(request: Request) -> HttpResponse:
    """Save the rule that was looked at in the preview; with `apply` also do at once what it says."""
    form = RuleForm(request.POST)
    if not form.is_valid():
        return _page(request, form, 422)
    rules.save_rule(request.workspace, form.rule(), request.user)
    if "apply" not in request.POST:
        messages.success(request, "The rule is saved; it is applied once a day.")
        return redirect("housekeeping:page")
    report = daily.now(request.workspace, request.user.get_username())
    messages.success(request, f"The rule is saved. {overview.told(report, request.workspace)}")
    return redirect("housekeeping:page")


@require_POST
@owner_required
def reset(request: Request) -> HttpResponse:
    if own := rules.own_rule(request.workspace):
        own.delete()
    messages.success(request, "This workspace follows the site's rule again.")
    return redirect("housekeeping:page")


@require_POST
@editor_required
def count(request: Request) -> HttpResponse:
    measure()
    messages.success(request, "Storage has been counted.")
    return redirect("housekeeping:page")


@require_GET
@superuser_required
def site(request: Request) -> HttpResponse:
    """All workspaces together, and the rule for those without one of their own."""
    return _site(request, RuleForm(instance=rules.site_rule(), site=True))


def _site(request: Request, form: RuleForm, status: int = 200) -> HttpResponse:
    context = {"site": overview.SitePage(), "form": form}
    return render(request, "housekeeping/site.html", context, status=status)


@require_GET
@superuser_required
def site_preview(request: Request) -> HttpResponse:
    form = RuleForm(request.GET, site=True)
    if not form.is_valid():
        return _site(request, form, 422)
    rule = form.rule()
    found = overview.Preview(rule, overview.followers_of_the_site())
    context = {"form": form, "preview": found, "sentences": rules.sentences(rule), "most": MOST_SHOWN}
    return render(request, "housekeeping/preview.html", {**context, "is_site": True})


@require_POST
@superuser_required
def site_save(request: Request) -> HttpResponse:
    form = RuleForm(request.POST, site=True)
    if not form.is_valid():
        return _site(request, form, 422)
    rules.save_rule(None, form.rule(), request.user)
    messages.success(request, "The rule for all workspaces without one of their own is saved.")
    return redirect("housekeeping:site")


@require_GET
@superuser_required
def orphan_list(request: Request) -> HttpResponse:
    files = list(storage.listing())
    found = orphans.find_orphans(files)
    known = [orphan for orphan in found if orphan.is_known][:MOST_SHOWN]
    context = {
        "orphans": [*known, *(orphan for orphan in found if not orphan.is_known)],
        "missing": orphans.find_missing(files)[:MOST_SHOWN],
        "size_bytes": sum(orphan.size_bytes for orphan in known),
        "known": known,
        "more": max(0, sum(orphan.is_known for orphan in found) - MOST_SHOWN),
    }
    return render(request, "housekeeping/orphans.html", context)


@require_POST
@superuser_required
def delete_orphans(request: HttpRequest) -> HttpResponse:
    """Those that were on the page, as far as they are still orphans."""
    report = HousekeepingReport.objects.create(asked_by=request.user.get_username())
    try:
        gone = orphans.delete_orphans(request.POST.getlist("prefix"), report)
    except (orphans.WrongDatabase, OSError) as error:
        messages.error(request, str(error))
    else:
        messages.success(request, overview.told_of_orphans(gone))
    overview.end(report)
    return redirect("housekeeping:orphans")


# -- of one run --------------------------------------------------------------------------------------
@require_POST
def delete(request: Request, pk: int) -> HttpResponse:
    run = run_to_change(request, pk)
    try:
        delete_run(run, request.user)
    except lifecycle.NotAllowed as refused:
        messages.error(request, str(refused))
        return redirect("runs:detail", pk=pk)
    messages.success(request, f"“{run.name}” is deleted, with everything that belonged to it.")
    return redirect("runs:list")


@require_http_methods(["GET", "POST"])
@editor_required
def delete_several(request: Request) -> HttpResponse:
    """GET: the runs that the list's filters leave, to be ticked; POST deletes those that are."""
    mine = Run.objects.filter(workspace=request.workspace)
    if request.method == "POST":
        wanted = [int(text) for text in request.POST.getlist("run") if text.isdecimal() and len(text) < 19]
        deleted, refused = delete_runs(mine.filter(pk__in=wanted), request.user)
        if deleted:
            messages.success(request, f"{deleted} run{'s' if deleted != 1 else ''} deleted.")
        for sentence in refused:
            messages.error(request, sentence)
        return redirect("runs:list")
    form = RunFilter(request.GET, request.workspace)
    found = form.apply(mine.exclude(status=Run.Status.RUNNING)).select_related("base_model")
    context = {"rows": with_sizes(list(found[: MOST_SHOWN + 1])), "filter": form, "most": MOST_SHOWN}
    return render(request, "housekeeping/several.html", context)


@require_POST
def keep(request: Request, pk: int) -> HttpResponse:
    """Keep the run from all rules, or with `keep=no` no longer."""
    run = run_to_change(request, pk)
    wanted = request.POST.get("keep", "yes") != "no"
    keep_run(run, wanted, request.user)
    messages.success(
        request, "No rule removes anything of this run." if wanted else "The workspace's rule counts again."
    )
    return redirect("runs:detail", pk=pk)
