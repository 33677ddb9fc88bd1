"""`hourglass encode`, `decode`, `generate` and `interpolate`: images and their latents."""

import argparse
import csv
import io
import json
from functools import partial
from pathlib import Path

import numpy as np

from hourglass_client.answers import NPY_TYPE, Latent
from hourglass_client.cli.journal import Journal
from hourglass_client.cli.run import (
    ANIMATIONS,
    ARCHIVES,
    EXIT_DONE,
    EXIT_SOME_FAILED,
    TYPE_BY_ENDING,
    AddCommand,
    add_many,
    for_each,
    say,
    type_of,
)
from hourglass_client.folders import some_images, write_whole
from hourglass_client.sync import Hourglass

_TABLES = {".npz", ".csv"}


def add_commands(add: AddCommand) -> None:
    """Add the commands `encode`, `decode`, `generate` and `interpolate`."""
    text = "print the latent of an image as JSON, or write those of many images into a .npz or .csv"
    add_many(add("encode", _encode, text), "one image; or images or folders, followed by the table to write")
    decode = add("decode", _decode, "decode a latent that `encode` has printed")
    decode.add_argument("latent", type=Path)
    decode.add_argument("output", type=Path)
    generate = add("generate", _generate, "generate images: several into one picture, a .zip or an .npy")
    generate.add_argument("output", type=Path)
    generate.add_argument("--count", type=int, default=1, metavar="N", help="number of images (default 1)")
    generate.add_argument(
        "--seed", type=int, metavar="S", help="seed of an earlier answer, to generate the same images"
    )
    generate.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="0 to 4 (default 1): lower is more ordinary"
    )
    generate.add_argument("--label", metavar="L", help="what to generate, if the model has labels")
    text = "interpolate between two images: a strip, .gif, .webp, .zip or .npy"
    interpolate = add("interpolate", _interpolate, text)
    interpolate.add_argument("first", type=Path)
    interpolate.add_argument("last", type=Path)
    interpolate.add_argument("output", type=Path)
    interpolate.add_argument(
        "--steps", type=int, default=9, metavar="N", help="number of images, both ends included (default 9)"
    )
    interpolate.add_argument("--path", choices=["linear", "spherical"], default="linear", help="straight, or an arc")


def _encode(hourglass: Hourglass, options: argparse.Namespace) -> int:
    *inputs, last = options.paths
    if inputs and Path(last).suffix.lower() in _TABLES:
        return _encode_many(hourglass, some_images(inputs), Path(last), options)
    if inputs or Path(last).is_dir():
        raise ValueError(f"give one image, or several and the table to write: {' or '.join(sorted(_TABLES))}")
    latent = hourglass.encode(last, model=options.model, version=options.version)
    name, _, version = latent.model.partition("/")
    # As /encode itself answers, so that /decode takes it.
    print(json.dumps({"model": name, "version": int(version), "latent": latent.values.tolist()}))
    return EXIT_DONE


def _encode_many(hourglass: Hourglass, files: list[Path], output: Path, options: argparse.Namespace) -> int:
    """Write all latents to one table, by one version of the model: those of two versions cannot be compared."""
    asked = {"command": "encode", "model": options.model, "version": options.version}
    with Journal(Path(f"{output}.part"), asked) as journal:
        todo = [file for file in files if journal.row(file) is None]
        if len(todo) < len(files):
            say(f"{len(files) - len(todo)} of {len(files)} were encoded before")

        def keep(file: Path, latent: Latent) -> None:
            journal.add(file, {"model": latent.model, "latent": latent.values.tolist()})

        pinned = journal.pinned() or (options.model, options.version)
        failed = 0
        while todo and journal.pinned() is None:  # the first answer says which version makes all
            ask = partial(hourglass.encode, model=pinned[0], version=pinned[1])
            failed += for_each(hourglass, [todo.pop(0)], ask, keep, at_once=1, what="encode")
        if pin := journal.pinned():
            ask = partial(hourglass.encode, model=pin[0], version=pin[1])
            failed += for_each(hourglass, todo, ask, keep, at_once=options.at_once, what="encode")
        rows = {str(file): row for file in files if (row := journal.row(file)) is not None}
        if rows:
            write_whole(output, _npz(rows) if output.suffix.lower() == ".npz" else _csv(rows))
            say(f"{output}: {len(rows)} latents by {next(iter(rows.values()))['model']}")
        journal.remove()
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def _npz(rows: dict[str, dict[str, object]]) -> bytes:
    """Return files (N,), latents (N, D), model."""
    file = io.BytesIO()
    latents = np.array([row["latent"] for row in rows.values()], np.float32)
    model = np.array(next(iter(rows.values()))["model"])
    np.savez(file, files=np.array(list(rows)), latents=latents, model=model)
    return file.getvalue()


def _csv(rows: dict[str, dict[str, object]]) -> bytes:
    file = io.StringIO(newline="")
    table = csv.writer(file)
    values = {name: row["latent"] for name, row in rows.items()}
    first = next(iter(values.values()))
    assert isinstance(first, list)  # noqa: S101  JSON that we wrote
    table.writerow(["file", "model", *(f"z{i}" for i in range(len(first)))])
    table.writerows([name, rows[name]["model"], *z] for name, z in values.items() if isinstance(z, list))
    return file.getvalue().encode()


def _decode(hourglass: Hourglass, options: argparse.Namespace) -> int:
    document = json.loads(options.latent.read_text())
    if not isinstance(document, dict) or "latent" not in document:
        raise ValueError(f"{options.latent} has no latent; write one with `hourglass encode`")
    model, version = options.model or document.get("model"), options.version or document.get("version")
    accept = type_of(options.output)
    hourglass.decode(document["latent"], model=model, version=version, accept=accept).save(options.output)
    return EXIT_DONE


def _generate(hourglass: Hourglass, options: argparse.Namespace) -> int:
    accept = type_of(options.output, more=ARCHIVES)
    drawn = hourglass.generate(
        options.count,
        seed=options.seed,
        temperature=options.temperature,
        label=options.label,
        model=options.model,
        version=options.version,
        view="sheet" if options.count > 1 and accept in TYPE_BY_ENDING.values() and accept != NPY_TYPE else None,
        accept=accept,
    )
    drawn.save(options.output)
    say(f"{options.output}: drawn by {drawn.model} with --seed {drawn.seed}")
    return EXIT_DONE


def _interpolate(hourglass: Hourglass, options: argparse.Namespace) -> int:
    hourglass.interpolate(
        options.first,
        options.last,
        steps=options.steps,
        path=options.path,
        model=options.model,
        version=options.version,
        accept=type_of(options.output, more=ARCHIVES | ANIMATIONS),
    ).save(options.output)
    return EXIT_DONE
