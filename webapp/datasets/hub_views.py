"""The form for a dataset of a hub; it stands on the upload page."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from webapp.accounts.access import editor_required
from webapp.datasets import hub, intake
from webapp.datasets.forms import HubForm, UploadForm, add_errors
from webapp.datasets.from_hub import create_of_hub
from webapp.datasets.views import upload_page
from webapp.requests import Request


@require_http_methods(["GET", "POST"])
@editor_required
def from_hub(request: Request) -> HttpResponse:
    if request.method == "GET":
        return redirect(f"{reverse('datasets:upload')}#from-hub")
    form = HubForm(request.POST)
    if form.is_valid():
        try:
            made = create_of_hub(workspace=request.workspace, user=request.user, **form.cleaned_data)
        except hub.Unreachable as error:
            form.add_error("dataset", str(error))
        except intake.IntakeError as error:
            add_errors(form, error.fields)
        else:
            return redirect("datasets:detail", made.pk)
    return upload_page(request, UploadForm(), form)
