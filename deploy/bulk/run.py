"""A folder of images through a model on many processes or machines: the service's own work, with Dask instead of HTTP.

    pip install hourglass-service 'dask[distributed]'
    python deploy/bulk/run.py anomaly parts/ --model models/hazelnut/5 --output verdicts/ --processes 2
    python deploy/bulk/run.py encode digits/ --model models/digits/5 --output latents/ --processes 2
    python deploy/bulk/run.py denoise scans/ --model models/photo/2 --output clean/ --scheduler tcp://10.0.0.5:8786

The answers are those of the service bit for bit: the same code reads, runs and writes, one image at a time. `anomaly`
and `encode` write a file of JSON lines for every hundred images, {"file": ..., "answer": ...}; `denoise` writes the
pictures as well. A file with a problem has {"file": ..., "problem": ...}. The same command goes on where it was
stopped. Over several machines, images, model and output are on a file system that all of them see.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from tqdm import tqdm

from service.errors import RequestError
from service.images.formats import EXTENSIONS, extension_of
from service.images.inspect import ImageFile
from service.limits import InputLimits, run_limits
from service.media_types import JSON_TYPE, NPY_TYPE
from service.models.loading import load_model
from service.models.model import Model
from service.models.session import start_provider
from service.settings import Settings
from service.tasks.anomaly.job import Anomaly
from service.tasks.denoise import denoiser
from service.tasks.encode import Encode
from service.tasks.restore import Options
from service.tasks.work import Work

_CHUNK = 100
_SUFFIXES = {f".{extension}" for extension in EXTENSIONS} | {".npy"}


def anomaly(data: bytes, model: Model, limits: InputLimits) -> Work:
    """Return the verdict on an image, as POST /anomaly gives it."""
    return Anomaly(ImageFile.of(data), model.manifest, limits, JSON_TYPE)


def encode(data: bytes, model: Model, limits: InputLimits) -> Work:
    """Return the latent of an image, as POST /encode gives it."""
    return Encode(ImageFile.of(data), model.manifest, limits, JSON_TYPE)


def denoise(data: bytes, model: Model, limits: InputLimits) -> Work:
    """Return the clean image, as POST /denoise gives it."""
    return denoiser(ImageFile.of(data), model.manifest, limits, None, options=Options())


WORK: dict[str, Callable[[bytes, Model, InputLimits], Work]] = {
    "anomaly": anomaly,
    "encode": encode,
    "denoise": denoise,
}


@lru_cache(maxsize=1)
def open_model(directory: str) -> tuple[Model, InputLimits]:
    """Return the model and the service's limits, once in each process, after the checks that the service makes."""
    settings = Settings()
    model = load_model(Path(directory).resolve(), provider=start_provider("cpu"), limits=run_limits(settings))
    return model, InputLimits(settings.max_pixels, settings.max_images, settings.max_frames)


def work_on(task: str, model_dir: str, root: str, names: Sequence[str], output: str) -> str:
    """Do the images of one chunk, in a worker; their lines."""
    model, limits = open_model(model_dir)
    lines = []
    for name in names:
        try:
            work = WORK[task]((Path(root) / name).read_bytes(), model, limits)
            answer = asyncio.run(work.run(model.batcher_by_task[task]))
        except (RequestError, OSError) as error:
            lines.append(json.dumps({"file": name, "problem": str(error)}))
            continue
        if answer.media_type == JSON_TYPE:
            lines.append(f'{{"file": {json.dumps(name)}, "answer": {answer.content.decode()}}}')
        else:
            ending = ".npy" if answer.media_type == NPY_TYPE else f".{extension_of(answer.media_type)}"
            written = name if name.lower().endswith(ending) else f"{name}{ending}"
            _write_whole(Path(output) / written, answer.content)
            lines.append(json.dumps({"file": name, "answer": written}))
    return "".join(f"{line}\n" for line in lines)


def chunks_of(root: Path, output: Path, label: str) -> dict[Path, list[str]]:
    """Return the images of a folder, but for hidden ones, by the file that their lines go into.

    The file is named after what it is made from: the label, and the images with their sizes and times.
    """
    named = (path for path in sorted(root.rglob("*")) if path.suffix.lower() in _SUFFIXES and path.is_file())
    files = [path for path in named if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    found: dict[Path, list[str]] = {}
    for start in range(0, len(files), _CHUNK):
        chunk = files[start : start + _CHUNK]
        stamps = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in chunk]
        digest = hashlib.sha256("\n".join([label, *stamps]).encode()).hexdigest()
        target = output / f"{start // _CHUNK:06}-{digest[:12]}.jsonl"
        found[target] = [path.relative_to(root).as_posix() for path in chunk]
    return found


def main() -> int:
    """Return the exit code: 0, or 1 if some images had problems."""
    try:  # the help and the tests of the work need no Dask
        from dask.distributed import Client, LocalCluster, as_completed  # noqa: PLC0415
    except ImportError:
        sys.exit("this needs Dask: pip install 'dask[distributed]'")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(WORK))
    parser.add_argument("folder", type=Path, help="of images, deeper folders too")
    parser.add_argument("--model", type=Path, required=True, help="its directory: models/NAME/VERSION")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="here, one for each core")
    where.add_argument("--scheduler", help="address of a Dask scheduler, with one thread in every worker")
    options = parser.parse_args()

    manifest = (options.model / "manifest.json").read_bytes()
    label = f"{options.task} {hashlib.sha256(manifest).hexdigest()}"
    chunks = chunks_of(options.folder.resolve(), options.output, label)
    todo = {target: names for target, names in chunks.items() if not target.exists()}
    options.output.mkdir(parents=True, exist_ok=True)
    total, left = sum(map(len, chunks.values())), sum(map(len, todo.values()))
    words = [options.task, str(options.model.resolve()), str(options.folder.resolve())]
    cluster = options.scheduler or LocalCluster(
        n_workers=options.processes, threads_per_worker=1, dashboard_address=None
    )
    with Client(cluster) as client, tqdm(total=total, initial=total - left, unit=" images") as bar:
        target_by_future = {
            client.submit(work_on, *words, names, str(options.output.resolve()), pure=False): target
            for target, names in todo.items()
        }
        for future in as_completed(list(target_by_future)):
            target = target_by_future.pop(future)
            _write_whole(target, future.result().encode())
            bar.update(len(todo[target]))
    if not options.scheduler:
        cluster.close()
    problems = sum('"problem": ' in line for target in chunks for line in target.read_text().splitlines())
    print(f"{total} images in {len(chunks)} files, {problems} with problems", file=sys.stderr)
    return 1 if problems else 0


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
