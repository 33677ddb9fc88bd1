"""Calls the webhook of an ended job, signed as in Standard Webhooks, until it is accepted.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from service.api.job_schemas import job_document
from service.api.service import Service
from service.collections.store.job import Call
from service.collections.store.jobs import JobQueue
from service.errors import InvalidParameter, StoreUnavailable
from service.http.encoding import write_json
from service.http.outbound import AllowedHosts, HostUnreachable, request
from service.media_types import JSON_TYPE

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_TRIES = 8
_FIRST_PAUSE_S = 2.0  # and twice as long before each further attempt: eight of them in some five minutes
_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 1.0
SECRET_PREFIX = "whsec_"  # noqa: S105  what secrets begin with


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message: `v1,` and the HMAC-SHA256 of its id, time and body in base64.

    Args:
        secret: `whsec_` and the key in base64.
        message_id: Id of the job. A message that arrives twice has the same one.
        timestamp: Seconds since 1970.
        body: Body of the message.
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def pause_s(attempt: int) -> float:
    """Return the seconds after an attempt, counted from 1, before the next one."""
    return _FIRST_PAUSE_S * 2.0 ** (attempt - 1) + _TIMEOUT_S


class WebhookSender:
    """Calls the webhooks that are due: of all jobs, whichever worker did them.

    Args:
        service: Whose jobs they are.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._hosts = AllowedHosts(service.settings.webhook_hosts, setting="webhook_hosts")

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            call = await self._take()
            if call is None:
                await self._service.webhook_signal.wait(_LOOK_EVERY_S)
            else:
                await self._deliver(call)

    async def _take(self) -> Call | None:
        if not self._service.has_jobs:
            return None
        try:
            return await self._ask(lambda queue: queue.call(pause_s=pause_s))
        except StoreUnavailable as error:
            log.warning("webhooks cannot be called: %s", error)
            return None

    async def _deliver(self, call: Call) -> None:
        try:
            reason = await self._send(call)
        except (HostUnreachable, InvalidParameter) as error:  # the settings may be others by now
            reason = str(error)
        if reason is None:
            await self._note(call, is_delivered=True)
        elif call.attempt >= MAX_TRIES:
            log.warning("job %s: its webhook was not delivered in %d attempts: %s", call.job.id, MAX_TRIES, reason)
            await self._note(call, is_delivered=False)
        else:
            log.info("job %s: attempt %d at its webhook failed: %s", call.job.id, call.attempt, reason)

    async def _send(self, call: Call) -> str | None:
        """Call a webhook. Return what went wrong; None if it was accepted."""
        target = self._hosts.target(call.url, parameter="webhook")
        body, now = write_json(job_document(call.job)), int(time.time())
        headers = {
            "Content-Type": JSON_TYPE,
            "webhook-id": call.job.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(self._service.settings.webhook_secret.get_secret_value(), call.job.id, now, body),
        }
        async with request(target, "POST", timeout_s=_TIMEOUT_S, headers=headers, content=body) as response:
            return None if response.is_success else f"it answers {response.status_code}"

    async def _note(self, call: Call, *, is_delivered: bool) -> None:
        try:
            await self._ask(lambda queue: queue.called(call.job.id, "delivered" if is_delivered else "failed"))
        except StoreUnavailable as error:
            log.warning("job %s: that its webhook was called cannot be written: %s", call.job.id, error)

    async def _ask(self, ask: Callable[[JobQueue], T]) -> T:
        return await self._service.jobs.write(ask)
