"""Log lines on standard error: as text, or as JSON for machines that collect them. None holds what a user sent."""

import logging
import sys
import traceback
from datetime import UTC, datetime

import orjson

from service.settings import Settings

# Of a record, what `extra=` has put there for the JSON; the text says it in its message.
FIELDS = (
    *("request_id", "trace_id", "method", "route", "status", "seconds", "problem"),
    *("key", "model", "version", "pixels", "verdict"),
)


def start_logging(settings: Settings) -> None:
    """Lines of the chosen level and above, warnings of libraries among them, go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if settings.log_format == "json" else text)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    logging.captureWarnings(capture=True)


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the fields that a record has."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in FIELDS if (value := record.__dict__.get(name)) is not None}
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return _json(line)


def _json(line: dict[str, object]) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except orjson.JSONEncodeError:  # lone surrogates, out of someone's file name
        clean = {name: str(value).encode("utf-8", "backslashreplace").decode() for name, value in line.items()}
        return orjson.dumps(clean).decode()
