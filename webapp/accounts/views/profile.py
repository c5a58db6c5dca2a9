"""One's own name, password and API tokens."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import SetPasswordForm
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from webapp.accounts.forms import ProfileForm, TokenForm
from webapp.accounts.models import ApiToken, User
from webapp.requests import Request


def _page(request: Request, status: int = 200, **extra: object) -> HttpResponse:
    forms = {
        "profile_form": ProfileForm(instance=request.user),
        "password_form": SetPasswordForm(request.user),
        "token_form": TokenForm(),
        "tokens": request.user.api_tokens.select_related("workspace").order_by("-created_at"),
    }
    return render(request, "accounts/profile.html", {**forms, **extra}, status=status)


@require_GET
def profile(request: Request) -> HttpResponse:
    return _page(request)


@require_POST
def save_profile(request: Request) -> HttpResponse:
    form = ProfileForm(request.POST, instance=User.objects.get(pk=request.user.pk))
    if not form.is_valid():
        return _page(request, 422, profile_form=form)
    form.save()
    messages.success(request, "Saved.")
    return redirect("accounts:profile")


@require_POST
def set_password(request: Request) -> HttpResponse:
    form = SetPasswordForm(request.user, request.POST)
    if not form.is_valid():
        return _page(request, 422, password_form=form)
    form.save()
    update_session_auth_hash(request, form.user)
    messages.success(request, "The new password holds from now on. Your other sessions have been signed out.")
    return redirect("accounts:profile")


@require_POST
def create_token(request: Request) -> HttpResponse:
    """Shows the secret once, on the page that answers; it is not kept."""
    form = TokenForm(request.POST)
    if request.workspace is None or not form.is_valid():
        return _page(request, 422, token_form=form)
    _token, secret = ApiToken.issue(request.user, request.workspace, form.cleaned_data["name"])
    return _page(request, new_secret=secret)


@require_POST
def revoke_token(request: Request, pk: int) -> HttpResponse:
    token = get_object_or_404(request.user.api_tokens, pk=pk)
    token.delete()
    messages.success(request, f"The token “{token.name}” works no more.")
    return redirect("accounts:profile")
