"""Build the help pages into `service/help/` for every wheel, source distribution and editable install."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class HelpPages(BuildHookInterface[Any]):
    """Call `docs/build_site.py`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages, unless a source distribution brings them."""
        root = Path(self.root)
        if not (root / "models").is_dir() and (root / "service" / "help").is_dir():
            return
        if not (root / "docs").is_dir():
            self.app.display_warning("no docs/ here: /help will have no pages")
            return
        build_site = runpy.run_path(str(root / "docs" / "build_site.py"))["build_site"]
        build_site(root / "service" / "help")
