"""Turns a request into a job, where it prefers that (RFC 7240) or names a webhook."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from service.api.job_schemas import job_document
from service.api.jobs.stored import KIND, StoredRequest
from service.api.responses import json_response
from service.api.schemas import JobQuery
from service.api.service import Service, service_of
from service.errors import InvalidParameter
from service.http.admission import slot_of
from service.http.api_keys import owner_of
from service.http.body import file_cap, read_plain_body
from service.http.budget import hold_of
from service.http.outbound import AllowedHosts
from service.http.sent import header

_PREFER = b"prefer"
_COPIES = 3  # of a body: as read, with its line of JSON, and in the database's hands

Endpoint = Callable[..., Coroutine[Any, Any, Response]]


def or_job(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that answers at once, or accepts the request as a job."""

    @functools.wraps(endpoint)
    async def answer(request: Request, query: JobQuery) -> Response:
        is_preferred = _prefers_job(request)
        if not is_preferred and query.webhook is None:
            return await endpoint(request, query)
        service = service_of(request)
        if service.settings.max_jobs == 0 and query.webhook is None:  # a preference may be left unheeded
            return await endpoint(request, query)
        _check_webhook(service, query.webhook)
        response = await _accept(request, service, query.webhook)
        if is_preferred:
            response.headers["Preference-Applied"] = "respond-async"
        return response

    return answer


async def _accept(request: Request, service: Service, webhook: str | None) -> Response:
    body = await read_plain_body(request, file_cap(service.settings))
    hold_of(request).reserve(bytes=_COPIES * len(body))
    slot_of(request).start(request, 1)
    payload = StoredRequest.of(request, body).to_bytes()
    owner, bounds = owner_of(request.scope), service.job_bounds
    job = await service.jobs.write(
        lambda queue: queue.submit(KIND, payload, bounds=bounds, owner=owner, webhook=webhook)
    )
    service.job_signal.wake()
    location = f"{request.scope.get('root_path', '')}/jobs/{job.id}"
    return json_response(job_document(job), status=202, headers={"Location": location})


def _prefers_job(request: Request) -> bool:
    if header(request.scope, _PREFER) is None:
        return False
    for name, value in request.scope["headers"]:
        if name == _PREFER and any(
            part.partition(b";")[0].strip().lower() == b"respond-async" for part in value.split(b",")
        ):
            return True
    return False


def _check_webhook(service: Service, url: str | None) -> None:
    if url is None:
        return
    if service.settings.max_jobs == 0:
        raise InvalidParameter("webhook requests a job, and jobs are off here (setting max_jobs)")
    AllowedHosts(service.settings.webhook_hosts, setting="webhook_hosts").target(url, parameter="webhook")
