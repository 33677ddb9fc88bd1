"""The model card, written from the manifest alone."""

import shlex
from itertools import pairwise

from service.contract.manifest import Manifest
from service.contract.provenance import Provenance

PICTURE = "preview.png"


def card(manifest: Manifest) -> str:
    """Return the card as Markdown."""
    made = manifest.provenance
    parts = [
        f"# {manifest.name}, version {manifest.version}",
        manifest.summary[:1].upper() + manifest.summary[1:] + ".",
        f"![{_caption(manifest)}]({PICTURE})",
        "## What it does",
        _tasks(manifest),
        "## Figures",
        "Measured on images that were used neither for training nor, unless a figure says so, for calibration. "
        "Baselines are simple methods on the same images.",
        _figures(manifest),
        "## Limits",
        "\n".join(f"- {limit}" for limit in manifest.limits) or "- None are known.",
        "## Data",
        f"{made.data.images} images of {made.data.name}: {_split(manifest)}\n"
        f"Source: {made.data.source}. Licence: {made.data.licence}.\nSHA-256 of all pixels: `{made.data.sha256}`.",
        "## Reproduce it",
        *_how_to_make(made),
        f"Architecture `{manifest.architecture}`, {made.parameters:,} parameters; seed {made.seed}; {_start(made)}"
        f"{made.images_seen:,} images seen in {made.cpu_s / 60:.0f} CPU-minutes ({made.wall_s / 60:.0f} minutes) on "
        f"{made.device}; PyTorch {made.torch_version}; commit `{made.commit}`. Every setting is under "
        "`provenance.config` in manifest.json. The same command on the same machine gives the same graphs; another "
        "processor or number of threads adds floats in another order.",
    ]
    return "\n\n".join(parts) + "\n"


def _how_to_make(made: Provenance) -> list[str]:
    words = shlex.split(made.command)
    folders = [
        word for option, word in pairwise(words) if option in {"--data", "--noisy", "--clean", "--defects", "--masks"}
    ]
    parts, commands = [], [made.command]
    if folders:
        named = " and ".join(f"`{folder}`" for folder in dict.fromkeys(folders))
        parts.append(f"Replace {named} by the path of your copy of the images.")
    if made.start:
        version = f"models/{made.start.name}/{made.start.version}"
        parts.append(
            f"Training starts from `{version}`. If it is missing, the first command restores it from the history."
        )
        commands.insert(0, f'git checkout "$(git rev-list -1 HEAD -- {version})^" -- {version}')
    marker = "<!-- needs: data" + (", and a version of the history" if made.start else "") + " -->"
    return [*([" ".join(parts)] if parts else []), marker, "\n".join(f"    {command}" for command in commands)]


def _split(manifest: Manifest) -> str:
    split = manifest.provenance.data.split
    if manifest.anomaly and not split.calibration:
        return "all for training; each was scored for the calibration by a detector trained without it."
    watched = (
        ""
        if split.test or split.calibration
        else " The figures are of the validation images. Training monitored them, and settings may have been chosen on "
        "them, so the figures may be slightly better than on unseen images."
    )
    return (
        f"{split.train} for training, {split.validation} for validation, {split.calibration} for calibration, "
        f"{split.test} for testing; no image is in two parts.{watched}"
    )


def _start(made: Provenance) -> str:
    if made.start is None:
        return ""
    start = made.start
    return (
        f"started from the weights of {start.name}, version {start.version} (SHA-256 of the graph "
        f"`{start.sha256[:12]}`; {start.images_seen:,} images, {start.cpu_s / 60:.0f} CPU-minutes); then "
    )


def _caption(manifest: Manifest) -> str:
    if set(manifest.tasks) == {"anomaly"}:
        return "Good and unusual images, their anomaly maps as heat maps, and the marked regions"
    if manifest.compression:
        return "Originals above their reconstructions at every rate"
    return "Test images: originals above noisy above denoised"


def _tasks(manifest: Manifest) -> str:
    rows = ["| task | graph | inputs | outputs | precision | largest difference from PyTorch in float32 |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for task, graph in manifest.tasks.items():
        shown = [
            ", ".join(f"{t.name} ({', '.join(map(str, t.shape))})" for t in tensors)
            for tensors in (graph.inputs, graph.outputs)
        ]
        parity = f"{graph.parity.max_abs_diff:.1e}"
        rows.append(f"| {task} | {graph.file} | {shown[0]} | {shown[1]} | {graph.precision} | {parity} |")
    if any(graph.precision == "int8" for graph in manifest.tasks.values()):
        rows += [
            "",
            "int8: weights and activations have 8 bits, inputs and outputs are float32. The figures are of these",
            'graphs; compare them with "same network in float32" to see the effect of the rounding.',
        ]
    return "\n".join(rows)


def _figures(manifest: Manifest) -> str:
    rows = ["| figure | this model | baselines | measured on |", "| --- | --- | --- | --- |"]
    for m in manifest.metrics:
        beside = "<br>".join(f"{name}: {_number(value)}" for name, value in m.baselines.items())
        better = "more is better" if m.higher_is_better else "less is better"
        rows.append(f"| {m.name} ({m.unit}; {better}) | **{_number(m.value)}** | {beside} | {m.data} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
