"""What one is told: the list behind the bell, the poll of every page, and the ways to be told."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs.models import Channel, Delivery
from runs.notifications import channels, inbox, mail, outbox
from runs.notifications.channels import ChannelError
from runs.notifications.forms import ChannelForm, WebhookForm
from webapp.polling import polls_by, tagged
from webapp.requests import Request

A_PAGE = 30
RECENT = 25  # deliveries on the page of a channel


@require_GET
def notification_list(request: Request) -> HttpResponse:
    found = inbox.messages_of(request.user)
    page = Paginator(found, A_PAGE).get_page(request.GET.get("page"))
    return render(
        request, "notifications/list.html", {"page": page, "unread": inbox.state(request.user.pk)[1]}
    )


@require_POST
def mark_all_read(request: Request) -> HttpResponse:
    inbox.mark_read(request.user)
    return redirect("notifications:list")


@require_GET
def open_notification(request: Request, pk: int) -> HttpResponse:
    """Leads to what it tells of. Having been read is no change that a GET may not make."""
    found = get_object_or_404(inbox.messages_of(request.user), pk=pk)
    inbox.mark_read(request.user, found.pk)
    return redirect(str(found.message.get("path", "/")))


@polls_by(inbox.UNCHANGED)
@require_GET
def news(request: Request) -> HttpResponse:
    """What has come since `?since=<id>`, for static/js/notifications.js; nothing new is 304 by one query."""
    newest, unread = inbox.state(request.user.pk)
    tag = inbox.tag(newest, unread)
    since = request.GET.get("since", "")
    known = int(since) if since.isdecimal() and len(since) < 19 else newest
    answer = {
        "tag": tag,
        "newest": newest,
        "unread": unread,
        "items": inbox.news(request.user, known) if known < newest else [],
    }
    return tagged(JsonResponse(answer), tag)


# -- ways to be told --------------------------------------------------------------------------------
def _mine(request: Request) -> Any:
    return Channel.objects.filter(
        user=request.user, workspace__memberships__user=request.user
    ).select_related("workspace")


def _sent(request: Request, pk: int) -> Channel:
    """A channel that sends something somewhere: all but that in Tuneboard itself."""
    found: Channel = get_object_or_404(_mine(request).exclude(kind=Channel.Kind.BROWSER), pk=pk)
    return found


def _settings_page(request: Request, status: int = 200, **extra: object) -> HttpResponse:
    own: dict[str, Any] = {"webhooks": []}
    if request.workspace is not None:
        outbox.ensure_own(request.user.pk, request.workspace.pk)
        for channel in channels.of_person(request.user, request.workspace):
            if channel.kind == Channel.Kind.WEBHOOK:
                own["webhooks"].append((channel, channels.url_of(channel), channels.is_readable(channel)))
            else:
                own[channel.kind] = channel
    context = {
        **own,
        "browser_form": ChannelForm(channel=own.get("browser"), kind="browser"),
        "email_form": ChannelForm(channel=own.get("email"), kind="email"),
        "mail_is_set_up": mail.is_set_up(),
    }
    return render(request, "notifications/settings.html", {**context, **extra}, status=status)


@require_GET
def notification_settings(request: Request) -> HttpResponse:
    return _settings_page(request)


def _choices(form: ChannelForm) -> dict[str, Any]:
    return {name: form.cleaned_data[name] for name in ("happenings", "scope", "stall_minutes", "enabled")}


@require_POST
def save_browser(request: Request) -> HttpResponse:
    channel = outbox.ensure_own(request.user.pk, request.workspace.pk) if request.workspace else None
    form = ChannelForm(request.POST, channel=channel, kind="browser")
    if channel is None or not form.is_valid():
        return _settings_page(request, 422, browser_form=form)
    channels.save(channel, **_choices(form))
    messages.success(request, "Saved.")
    return redirect("notifications:settings")


@require_POST
def save_email(request: Request) -> HttpResponse:
    form = ChannelForm(request.POST, kind="email")
    if request.workspace is None or not form.is_valid():
        return _settings_page(request, 422, email_form=form)
    try:
        channels.add_email(request.user, request.workspace, **_choices(form))
    except ChannelError as refused:
        form.take_back(refused)
        return _settings_page(request, 422, email_form=form)
    messages.success(request, "Saved.")
    return redirect("notifications:settings")


@require_http_methods(["GET", "POST"])
def add_webhook(request: Request) -> HttpResponse:
    """Shows the secret once, on the page that answers."""
    form = WebhookForm(request.POST if request.method == "POST" else None, kind="webhook")
    if request.method == "POST" and request.workspace is not None and form.is_valid():
        choices = {**_choices(form), "enabled": True}
        try:
            channel, secret = channels.add_webhook(
                request.user,
                request.workspace,
                name=form.cleaned_data["name"],
                url=form.cleaned_data["url"],
                **choices,
            )
        except ChannelError as refused:
            form.take_back(refused)
        else:
            return _channel_page(request, channel, new_secret=secret)
    return render(
        request, "notifications/add_webhook.html", {"form": form}, status=422 if form.errors else 200
    )


def _channel_page(request: Request, channel: Channel, status: int = 200, **extra: object) -> HttpResponse:
    is_webhook = channel.kind == Channel.Kind.WEBHOOK
    context = {
        "channel": channel,
        "form": (WebhookForm if is_webhook else ChannelForm)(channel=channel),
        "url": channels.url_of(channel),
        "is_webhook": is_webhook,
        "is_readable": not is_webhook or channels.is_readable(channel),
        "deliveries": list(channel.deliveries.select_related("run")[:RECENT]),
    }
    return render(request, "notifications/channel.html", {**context, **extra}, status=status)


@require_http_methods(["GET", "POST"])
def channel(request: Request, pk: int) -> HttpResponse:
    """A webhook's or the mail's page: what it tells, and what it has told; POST changes it."""
    found = _sent(request, pk)
    if request.method == "GET":
        return _channel_page(request, found)
    is_webhook = found.kind == Channel.Kind.WEBHOOK
    form = (WebhookForm if is_webhook else ChannelForm)(request.POST, channel=found)
    if not form.is_valid():
        return _channel_page(request, found, 422, form=form)
    try:
        if is_webhook:
            named = {name: form.cleaned_data[name] for name in ("name", "url")}
            channels.change_webhook(found, **named, **_choices(form))
        else:
            channels.save(found, **_choices(form))
    except ChannelError as refused:
        form.take_back(refused)
        return _channel_page(request, found, 422, form=form)
    messages.success(request, "Saved.")
    return redirect("notifications:channel", pk=found.pk)


@require_POST
def send_test(request: Request, pk: int) -> HttpResponse:
    found = _sent(request, pk)
    outbox.send_test(found)
    messages.success(request, "The test is on its way; below you see in a few seconds what came of it.")
    return redirect("notifications:channel", pk=found.pk)


@require_POST
def new_secret(request: Request, pk: int) -> HttpResponse:
    found = get_object_or_404(_mine(request).filter(kind=Channel.Kind.WEBHOOK), pk=pk)
    return _channel_page(request, found, new_secret=channels.renew_secret(found))


@require_POST
def remove_channel(request: Request, pk: int) -> HttpResponse:
    found = _sent(request, pk)
    found.delete()
    messages.success(request, f"{found} was removed.")
    return redirect("notifications:settings")


@require_POST
def send_again(request: Request, pk: int) -> HttpResponse:
    delivery = get_object_or_404(Delivery.objects.filter(channel__in=_mine(request), in_app=False), pk=pk)
    if outbox.send_again(delivery):
        messages.success(request, "It is sent again, with the same id.")
    else:
        messages.info(request, "It waits to be sent already.")
    return redirect("notifications:channel", pk=delivery.channel_id)
