"""Signing in, by password or by a one-time link, and out."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from webapp.accounts import links
from webapp.accounts.forms import SignInForm


@method_decorator(login_not_required, name="dispatch")
class SignIn(LoginView):
    """User name and password; django-axes locks out whoever guesses."""

    template_name = "accounts/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True


class SignOut(LogoutView):
    next_page = "accounts:sign_in"


@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def link(request: HttpRequest, secret: str) -> HttpResponse:
    """A one-time link. Looking at it uses nothing up (chat programs fetch what they are sent); the button does."""
    if request.method == "GET":
        return render(request, "accounts/link.html")
    user = links.redeem(secret)
    if user is None:
        return render(request, "accounts/link.html", {"spent": True}, status=410)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    if not user.has_usable_password():
        told = 'You have no password yet: <a href="{}">set one in your profile</a> to sign in without a link.'
        messages.info(request, format_html(told, reverse("accounts:profile")))
    return redirect("overview")


@login_not_required
def locked_out(request: HttpRequest, *_args: object, **_kwargs: object) -> HttpResponse:
    """Shown by django-axes after too many wrong passwords."""
    return render(request, "accounts/locked_out.html", status=429)
