"""Packages of peers, which a machine may lack."""

import importlib
from types import ModuleType


def optional(name: str) -> ModuleType | None:
    """Return a package, if it is installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
