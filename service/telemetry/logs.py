"""Log lines on standard error, as text or JSON. They never contain data of users."""

import logging
import sys
import traceback
from datetime import UTC, datetime

import orjson

from service.settings import Settings

# Fields that `extra=` adds to JSON lines; text lines have them in their message.
FIELDS = (
    *("request_id", "trace_id", "method", "route", "status", "seconds", "problem"),
    *("key", "model", "version", "pixels", "verdict"),
)


def start_logging(settings: Settings) -> None:
    """Log to standard error from the chosen level on, including warnings of libraries."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if settings.log_format == "json" else text)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    logging.captureWarnings(capture=True)


class JsonLines(logging.Formatter):
    """Format records as one JSON object per line: time, level, logger, message, and any of `FIELDS`."""

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
    except orjson.JSONEncodeError:  # lone surrogates, as in file names
        clean = {name: str(value).encode("utf-8", "backslashreplace").decode() for name, value in line.items()}
        return orjson.dumps(clean).decode()
