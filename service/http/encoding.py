"""Documents as bytes."""

import orjson


def write_json(document: object) -> bytes:
    """Return the document as JSON; NumPy arrays and numbers in it need not become lists first."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def as_json(text: str | None) -> orjson.Fragment:
    """Return JSON as a part of a document, without reading it; None is null."""
    return orjson.Fragment(text or "null")
