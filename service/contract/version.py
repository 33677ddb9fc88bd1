"""The manifest of a version in its directory: `manifest.json`, and `tables.json` beside it for a model that compresses.

The tables of such a model are a hundred times as large as the rest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from service.contract.manifest import MANIFEST_FILE, Manifest
from service.contract.tables import TABLES_FILE

# What pydantic leaves out of a manifest where its tables are elsewhere.
TABLES: Mapping[str, Any] = {"compression": {"rates": {"__all__": {"tables", "chroma"}}}}


def manifest_of(directory: Path) -> Manifest:
    """Read the manifest of `models/<name>/<version>`.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: It is no manifest, or its tables do not fit.
    """
    tables = directory / TABLES_FILE
    return parse_manifest((directory / MANIFEST_FILE).read_bytes(), tables.read_bytes() if tables.exists() else None)


def parse_manifest(content: bytes, tables: bytes | None = None) -> Manifest:
    """Parse `manifest.json`, and `tables.json` if the version has one.

    Versions made before there was such a file have the tables in the manifest.

    Raises:
        ValueError: It is no manifest, or its tables do not fit.
    """
    if tables is None:
        return Manifest.model_validate_json(content)
    try:
        document, points = from_json(content), from_json(tables)
        rates = document["compression"]["rates"]
        for rate, point in zip(rates, points, strict=True):
            rate |= {"tables": point["tables"], "chroma": point["chroma"]}
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{TABLES_FILE} does not have the tables of the rates in {MANIFEST_FILE}: {error}") from error
    return Manifest.model_validate(document)


def tables_of(manifest: Manifest) -> bytes | None:
    """Return the content of `tables.json`, or None for a model that does not compress."""
    if manifest.compression is None:
        return None
    rates = [rate.model_dump(include={"tables", "chroma"}) for rate in manifest.compression.rates]
    return b"[\n" + b",\n".join(map(to_json, rates)) + b"\n]\n"
