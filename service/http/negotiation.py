"""Which of the formats that an endpoint offers the Accept header wants (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

from service.errors import NotAcceptable, shown


def negotiate(accept: str | None, offers: Sequence[str]) -> str:
    """Return the media type with the highest quality in `Accept`; of equals the earlier in `offers`.

    Args:
        accept: The Accept header; None if it is missing.
        offers: Media types, best first.

    Raises:
        NotAcceptable: The client accepts none of them.
    """
    if accept is None or accept in {"*/*", ""}:
        return offers[0]
    ranges = _ranges(accept)
    quality, _, best = max((_quality(ranges, offer), -i, offer) for i, offer in enumerate(offers))
    if quality <= 0:
        raise NotAcceptable(f"Accept is {shown(accept)}; this answer can be {', '.join(offers)}")
    return best


def _quality(ranges: dict[str, float], offer: str) -> float:
    exact, family = offer, f"{offer.partition('/')[0]}/*"
    return next((ranges[name] for name in (exact, family, "*/*") if name in ranges), 0.0)


def _ranges(accept: str) -> dict[str, float]:
    quality_by_range: dict[str, float] = {}
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    quality = 0.0
        quality_by_range[name] = max(quality, quality_by_range.get(name, 0.0))
    return quality_by_range
