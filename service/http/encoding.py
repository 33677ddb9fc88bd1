"""Documents as bytes."""

import orjson


def write_json(document: object) -> bytes:
    """Return the document as JSON; NumPy arrays and numbers in it need not become lists first."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
