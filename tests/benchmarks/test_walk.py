"""`python -m benchmarks.micro walk` lists the files that a request enters."""

import asyncio
from pathlib import Path

from benchmarks.micro.walk import files_entered
from tests.service.toymodels import publish_toy


def test_the_walk_begins_at_the_door_and_ends_with_the_answer(tmp_path: Path) -> None:
    publish_toy(tmp_path)

    files = asyncio.run(files_entered(tmp_path))

    assert next(iter(files)) == "http/instrument.py"
    assert {"api/addresses.py", "api/pipeline.py", "models/batcher.py", "tasks/denoise.py"} <= files.keys()
    assert "single_response" in files["api/responses.py"]
