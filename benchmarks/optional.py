"""Optional packages of peers."""

import importlib
from types import ModuleType


def optional(name: str) -> ModuleType | None:
    """Import a package; return None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
