"""The model card: what a person should know before using a model, written from its manifest alone."""

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
        "On images that training did not see, nor calibration unless it is said beside the figure. A figure alone says "
        "little, so methods that cost nothing are beside it.",
        _figures(manifest),
        "## Limits",
        "\n".join(f"- {limit}" for limit in manifest.limits)
        or "- None known, which is not to say that there are none.",
        "## Data",
        f"{made.data.images} images of {made.data.name}: {_split(manifest)}\n"
        f"Source: {made.data.source}. Licence: {made.data.licence}.\nSHA-256 of all pixels: `{made.data.sha256}`.",
        "## How to make it again",
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
    parts = []
    if folders:
        named = " and ".join(f"`{folder}`" for folder in dict.fromkeys(folders))
        parts.append(f"Put the path of your copy of the images in the place of {named}.")
    if made.start:
        version = f"models/{made.start.name}/{made.start.version}"
        parts.append(f"It begins with `{version}`; if that is missing, `git log -- {version}` finds it in the history.")
    marker = "<!-- needs: data" + (", and a version of the history" if made.start else "") + " -->"
    return [*([" ".join(parts)] if parts else []), marker, f"    {made.command}"]


def _split(manifest: Manifest) -> str:
    split = manifest.provenance.data.split
    if manifest.anomaly and not split.calibration:
        return "all of them taught, and each was scored for the calibration by a detector that it did not teach."
    watched = (
        ""
        if split.test or split.calibration
        else " The figures are of the validation images: training watched them, and settings may have been compared by "
        "them, so unseen images may fare a little worse."
    )
    return (
        f"{split.train} for training, {split.validation} for validation, {split.calibration} for calibration, "
        f"{split.test} for the figures; no image is in two parts.{watched}"
    )


def _start(made: Provenance) -> str:
    if made.start is None:
        return ""
    start = made.start
    return (
        f"it began with the weights of {start.name}, version {start.version} (SHA-256 of the graph "
        f"`{start.sha256[:12]}`; {start.images_seen:,} images, {start.cpu_s / 60:.0f} CPU-minutes); then "
    )


def _caption(manifest: Manifest) -> str:
    if set(manifest.tasks) == {"anomaly"}:
        return "Good and unusual images, their maps as heat over them, and what is marked"
    if manifest.compression:
        return "Originals over what is left of them at every rate"
    return "Originals over noisy over denoised test images"


def _tasks(manifest: Manifest) -> str:
    rows = ["| task | graph | in | out | precision | float32 differs from PyTorch by at most |"]
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
            "int8: weights and activations have 8 bits inside, inputs and outputs are float32. The figures are of",
        ]
        rows += ['these graphs; what the rounding costs is seen from "same network in float32" beside them.']
    return "\n".join(rows)


def _figures(manifest: Manifest) -> str:
    rows = ["| figure | this model | beside it | on |", "| --- | --- | --- | --- |"]
    for m in manifest.metrics:
        beside = "<br>".join(f"{name}: {_number(value)}" for name, value in m.baselines.items())
        better = "more is better" if m.higher_is_better else "less is better"
        rows.append(f"| {m.name} ({m.unit}; {better}) | **{_number(m.value)}** | {beside} | {m.data} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
