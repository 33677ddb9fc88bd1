"""The client that waits is made from the one for asyncio."""

import inspect
import runpy
from pathlib import Path

from hourglass_client import AsyncHourglass, Hourglass

PROJECT = Path(__file__).parents[2] / "clients" / "python"


def test_sync_py_is_what_make_sync_makes_of_aio_py() -> None:
    module = runpy.run_path(str(PROJECT / "make_sync.py"))
    source = PROJECT / "src" / "hourglass_client"

    made = module["synchronous"]((source / "aio.py").read_text())

    assert (source / "sync.py").read_text() == made, "run `python clients/python/make_sync.py`"


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in vars(client).items()
            if inspect.isfunction(method) and not name.startswith("_")
        }

    assert methods(Hourglass) == methods(AsyncHourglass)
