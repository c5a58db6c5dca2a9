"""Getting messages out: claimed one by one, sent, tried again later, given up; and channels switched off.

The dispatcher calls `poke` at each round and goes on at once: a few threads do the sending, so that a server that answers
slowly holds up nothing but itself. A message is claimed for CLAIM_SECONDS by SKIP LOCKED; two dispatchers never
have the same one, and one that dies gives it back by the passing of time. Between sending and saying so in the
database lies a moment in which a death means a second delivery: with the same id, by which a receiver can tell.
"""

from __future__ import annotations

import logging
import smtplib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce, Now

from runs.execution.outages import AWAY, through_outages
from runs.models import Channel, Delivery
from runs.notifications import mail, messages, outbox, webhooks
from webapp import clock
from webapp.accounts.models import Membership
from webapp.addresses import Refused, Unreachable
from webapp.secrets import Unreadable, unseal

log = logging.getLogger(__name__)
THREADS = 4
CLAIM_SECONDS = 120  # well over what a delivery may take
RETRY_SECONDS = (30, 120, 600, 3600, 4 * 3600)  # after the first failure, the second, …; then it is given up
LONGEST_WAIT = 4 * 3600  # that a receiver can ask for by Retry-After
FAILING_FOR = timedelta(days=3)  # a channel that gets nothing through for so long is switched off
KEPT_FOR = timedelta(days=90)


@dataclass(frozen=True)
class Outcome:
    """What became of a try. `theirs`: the channel is at fault, not our own mail server or database."""

    problem: str = ""  # empty: it got through
    status: int | None = None
    again: bool = True
    wait: float | None = None  # seconds that the receiver asks for
    theirs: bool = True
    gone: bool = False  # the receiver says that it wants nothing more


def claim() -> Delivery | None:
    """The message that has waited longest, of a channel to which nothing is being sent now; None if none is due."""
    with transaction.atomic():
        sending = Delivery.objects.filter(
            channel=OuterRef("channel"), status=Delivery.Status.PENDING, claimed_until__gt=Now()
        )
        # The row's own claim is asked for by itself: it is looked at again once the row is locked, where another has
        # claimed it a moment ago; what a subquery finds is not.
        free = Q(claimed_until=None) | Q(claimed_until__lt=Now())
        due = Delivery.objects.filter(
            free, ~Exists(sending), status=Delivery.Status.PENDING, next_attempt_at__lte=Now()
        )
        chosen: Delivery | None = (
            due.select_related("channel__user", "channel__workspace")
            .select_for_update(skip_locked=True, no_key=True, of=("self", "channel"))
            .order_by("next_attempt_at", "pk")
            .first()
        )
        if chosen is None:
            return None
        until = Now() + timedelta(seconds=CLAIM_SECONDS)
        claimed = Delivery.objects.filter(free, pk=chosen.pk, status=Delivery.Status.PENDING)
        if not claimed.update(claimed_until=until, attempts=F("attempts") + 1):
            return None  # somebody else's after all; the next round finds what is left
        chosen.refresh_from_db(fields=["attempts"])
        return chosen


def deliver(delivery: Delivery) -> None:
    """Send it, and write down what came of it."""
    outcome = _try(delivery)
    waited = time.monotonic() + CLAIM_SECONDS / 2
    through_outages(lambda: _record(delivery, outcome), give_up=lambda: time.monotonic() > waited)


def _try(delivery: Delivery) -> Outcome:
    channel = delivery.channel
    if not channel.enabled and delivery.type != "test":
        return Outcome("The channel was switched off before this could be sent.", again=False, theirs=False)
    member = Membership.objects.filter(user_id=channel.user_id, workspace_id=channel.workspace_id)
    if not channel.user.is_active or not member.exists():
        return Outcome("Its owner is no member of the workspace any more.", again=False, theirs=False)
    if channel.kind == Channel.Kind.EMAIL:
        return _try_mail(delivery)
    return _try_webhook(delivery)


def _try_mail(delivery: Delivery) -> Outcome:
    if not mail.is_set_up():
        return Outcome("This server has no mail server set up (TUNEBOARD_SMTP_URL).", theirs=False)
    recipient = delivery.channel.user.email
    if not recipient:
        return Outcome("The profile has no e-mail address.", again=False)
    try:
        mail.send(delivery, recipient)
    except smtplib.SMTPRecipientsRefused as refused:
        code, reason = next(iter(refused.recipients.values()), (0, b""))
        said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        return Outcome(
            f"The mail server refuses {recipient}: {said}"[:500], int(code) or None, again=code < 500
        )
    except smtplib.SMTPResponseException as error:
        said = (
            error.smtp_error.decode(errors="replace")
            if isinstance(error.smtp_error, bytes)
            else error.smtp_error
        )
        return Outcome(f"The mail server says: {said}"[:500], error.smtp_code, theirs=False)
    except (smtplib.SMTPException, OSError) as error:
        return Outcome(f"The mail server cannot be reached: {error}"[:500], theirs=False)
    return Outcome()


def _try_webhook(delivery: Delivery) -> Outcome:
    channel = delivery.channel
    try:
        url, secret = unseal(channel.sealed_url), unseal(channel.sealed_secret)
        answer = webhooks.send(url, secret, messages.webhook_id(delivery), messages.webhook_body(delivery))
    except Unreadable as unreadable:
        return Outcome(str(unreadable), again=False)
    except Refused as refused:
        return Outcome(str(refused), again=False)
    except Unreachable as unreachable:
        return Outcome(str(unreachable))
    if 200 <= answer.status < 300:
        return Outcome(status=answer.status)
    if 300 <= answer.status < 400:
        return Outcome(
            f"It answered {answer.status}, a redirect; redirects are not followed. Enter the final address.",
            answer.status,
        )
    said = " ".join(answer.body[:200].decode(errors="replace").split())
    wait = answer.headers.get("retry-after", "")
    return Outcome(
        f"It answered {answer.status}{': ' + said if said else ''}.",
        answer.status,
        again=answer.status != 410,
        wait=min(float(wait), LONGEST_WAIT) if wait.isdecimal() else None,
        gone=answer.status == 410,
    )


def _record(delivery: Delivery, outcome: Outcome) -> None:
    """In one transaction; nothing if somebody else has claimed it meanwhile, or it was started over."""
    close_old_connections()
    with transaction.atomic():
        mine = Delivery.objects.filter(
            pk=delivery.pk,
            status=Delivery.Status.PENDING,
            attempts=delivery.attempts,
            claimed_until__isnull=False,
        )
        channel = Channel.objects.filter(pk=delivery.channel_id)
        if not outcome.problem:
            if mine.update(
                status=Delivery.Status.SENT,
                sent_at=Now(),
                claimed_until=None,
                response_status=outcome.status,
                last_error="",
            ):
                channel.update(failing_since=None, last_error="")
            return
        given_up = not outcome.again or delivery.attempts > len(RETRY_SECONDS)
        values: dict[str, Any] = {
            "claimed_until": None,
            "response_status": outcome.status,
            "last_error": outcome.problem,
        }
        if given_up:
            values["status"] = Delivery.Status.FAILED
        else:
            pause = max(RETRY_SECONDS[delivery.attempts - 1], outcome.wait or 0)
            values["next_attempt_at"] = Now() + timedelta(seconds=pause)
        if not mine.update(**values):
            return
        log.info(
            "Message %s was not delivered (try %d): %s", delivery.key, delivery.attempts, outcome.problem
        )
        if delivery.type == "test":  # one tries an address out: that is no failing channel
            return
        if outcome.theirs:
            channel.update(failing_since=Coalesce(F("failing_since"), Now()), last_error=outcome.problem)
        else:
            channel.update(last_error=outcome.problem)
        if outcome.gone or (given_up and outcome.theirs):
            _switch_off(delivery.channel_id, outcome)


def _switch_off(channel_id: int, outcome: Outcome) -> None:
    """If nothing has got through for days, or the receiver says that it is gone; its owner is told."""
    found = Channel.objects.select_for_update(of=("self",), no_key=True).select_related("workspace")
    channel = found.filter(pk=channel_id, enabled=True).first()
    if channel is None or channel.failing_since is None:
        return
    if outcome.gone:
        channel.switched_off = "The address answered 410 Gone: it wants no more messages."
    elif (failing := clock.now() - channel.failing_since) > FAILING_FOR:
        days = failing.days
        channel.switched_off = f"Nothing has got through for {days} days. The last try: {outcome.problem}"
    else:
        return
    channel.enabled = False
    channel.save(update_fields=["enabled", "switched_off"])
    waiting = channel.deliveries.filter(Q(claimed_until=None) | Q(claimed_until__lt=Now()))
    waiting.filter(status=Delivery.Status.PENDING).update(
        status=Delivery.Status.FAILED, last_error="The channel was switched off before this could be sent."
    )
    outbox.switched_off(channel)
    log.warning("Channel %d was switched off: %s", channel.pk, channel.switched_off)


def send_due() -> int:
    """Everything that is due, one after the other; how many were tried."""
    count = 0
    while (delivery := claim()) is not None:
        deliver(delivery)
        count += 1
    return count


class Sender:
    """The threads of one dispatcher."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="notify")
        self._free = threading.Semaphore(threads)
        self._threads = threads

    def poke(self) -> None:
        """Put idle threads to work if something is due; returns at once."""
        due = Delivery.objects.filter(status=Delivery.Status.PENDING, next_attempt_at__lte=Now())
        due = due.filter(Q(claimed_until=None) | Q(claimed_until__lt=Now()))
        for _ in range(due.order_by().values("channel").distinct()[: self._threads].count()):
            if not self._free.acquire(blocking=False):
                return
            self._pool.submit(self._work)

    def _work(self) -> None:
        try:
            close_old_connections()
            send_due()
        except AWAY as error:
            log.warning("Notifications wait for the database: %s", str(error).strip())
        except Exception:  # the thread goes back to the pool, and the message is tried again
            log.exception("Sending notifications failed.")
        finally:
            connection.close()
            self._free.release()

    def close(self) -> None:
        """Wait for what is under way: seconds, since every delivery has a time limit."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def prune() -> int:
    """Drop messages that are over and old; how many."""
    old = Delivery.objects.filter(created_at__lt=Now() - KEPT_FOR)
    return int(old.exclude(status=Delivery.Status.PENDING).delete()[0])


def smtp_server() -> str:
    """The mail server as a page may name it: without user and password."""
    return f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
