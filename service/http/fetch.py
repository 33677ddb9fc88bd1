"""Gets the image that a request names by its address, from hosts that the operator allows."""

import asyncio

from starlette.requests import Request

from service.errors import ImageUnreachable, InvalidParameter, shown
from service.http.body import Arriving, file_cap, read_plain_body
from service.http.budget import hold_of
from service.http.multipart import Part
from service.http.outbound import AllowedHosts, HostUnreachable, Target
from service.http.outbound import request as ask
from service.settings import Settings


async def fetch_image(request: Request, settings: Settings, url: str) -> Part:
    """Return the file at an address. The request itself has no body.

    Args:
        request: Request with the address.
        settings: Settings with the allowed hosts, the limit of a file, and the timeout.
        url: Address, `https://...` or `http://...`.

    Raises:
        InvalidParameter: The address leads to a host that is not allowed, or the request has a body, too.
        ImageUnreachable: The host does not answer with a file in time. Redirects are not followed.
        BodyTooLarge: The file is over `max_body_bytes`. The rest is not read.
        QueueFull: The memory budget is used by other requests.
    """
    target = AllowedHosts(settings.image_hosts, setting="image_hosts").target(url, parameter="image")
    if await read_plain_body(request, file_cap(settings)):
        raise InvalidParameter("image names a file, and the body has another one; send one of them")
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return Part("file", await _read(request, settings, target))
    except TimeoutError as error:
        raise ImageUnreachable(
            f"{shown(target.url.host)} did not send the image within {settings.body_timeout_s:g} s (setting "
            "body_timeout_s)"
        ) from error
    except HostUnreachable as error:
        raise ImageUnreachable(f"image cannot be fetched from {error}") from error


async def _read(request: Request, settings: Settings, target: Target) -> bytes:
    arriving = Arriving(hold_of(request), file_cap(settings))
    # As it is: nothing that was sent small may become large here.
    headers = {"Accept-Encoding": "identity"}
    async with ask(target, "GET", timeout_s=settings.body_timeout_s, headers=headers) as response:
        if response.status_code != 200:
            raise ImageUnreachable(
                f"{shown(target.url.host)} answers {response.status_code}"
                + ("; redirects are not followed" if response.is_redirect else "")
            )
        async for chunk in response.aiter_raw():
            arriving.add(chunk)
    return arriving.whole()
