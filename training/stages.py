"""The stages of making a model, in the order of `fit`; each reads what earlier ones left in the run."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from service.contract.manifest import Task
from training.anomaly.aligned import AlignedDetector, learn_aligned_detector
from training.architectures import build
from training.calibrate import calibrate
from training.checkpoint import CHECKPOINT, WEIGHTS
from training.config import Recipe, RecipeError
from training.corruptions import corrupt, training_input
from training.data import Dataset
from training.distributed import rank_and_world
from training.errors import DeviceError, ExportError, RunError
from training.evaluate import evaluate
from training.export import Int8, export_graphs
from training.files import write_atomically
from training.graphs import check_task, graph_for
from training.images.pixels import to_pixels
from training.latents import latents
from training.prior import FittedPrior, Prior, fit_prior
from training.problems.one_size import job, trained, validation_loss
from training.publish import assemble, git_commit, next_version, publish
from training.regularisation import check_regularisation
from training.run import (
    CALIBRATION,
    DETECTOR,
    EVALUATION,
    GRAPHS,
    MODEL,
    PRIOR,
    REPORT,
    START,
    Run,
    RunDirectory,
)
from training.start import load_start, read_start
from training.trainer import train
from training.verify import verify

EXAMPLES = 16  # real images that graphs are compared with PyTorch on


@dataclass(frozen=True)
class Options:
    """What the command line says beside the recipe."""

    device: str = "auto"
    models: Path = Path("models")
    beside: tuple[Run, ...] = ()
    progress: bool = True


def train_stage(run: Run, options: Options) -> None:
    """Images -> weights."""
    device = find_device(options.device)
    data = run.data
    _say_what_was_read(data)
    work = job(run.recipe, data, device)
    start = run.recipe.training.start_from
    if start and not run.path(CHECKPOINT).exists():
        load_start(work.network, start)
        run.write(START, read_start(start).model_dump())
    report = train(work, run_dir=run.directory, device=device, progress=options.progress)
    if rank_and_world()[0] == 0:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        run.write(REPORT, {**asdict(report), "device": name})


def prior_stage(run: Run, options: Options) -> None:
    """Weights -> where the latents of the training images lie, for `generate` to draw from."""
    if "generate" not in run.recipe.tasks:
        return
    _need(run, WEIGHTS, "train")
    z = latents(graph_for("encode", trained(run.recipe, run.directory)), run.data.train)
    prior = fit_prior(z, run.data.train_labels, run.recipe.prior, seed=run.recipe.training.seed)
    prior.save(run.path(PRIOR))
    each = f" for each of {len(prior.labels)} labels" if prior.labels else ""
    tqdm.write(f"prior: {prior.network().components} Gaussians{each}, fitted to {len(z)} latents")


def detector_stage(run: Run, options: Options) -> None:
    """Training images -> what `anomaly` answers with; it needs no weights of the autoencoder."""
    if "anomaly" not in run.recipe.tasks:
        return
    for made_before in (GRAPHS, EVALUATION, CALIBRATION):  # of another detector, or from when a model had none
        run.path(made_before).unlink(missing_ok=True)
    detector = learn_aligned_detector(run.data.train, seed=run.recipe.training.seed, progress=options.progress)
    with write_atomically(run.path(DETECTOR)) as file:
        torch.save(detector.state_dict(), file)


def export_stage(run: Run, options: Options) -> None:
    """Weights -> one ONNX graph per task, compared with PyTorch; int8 if the recipe says so."""
    _need(run, WEIGHTS, "train")
    model = trained(run.recipe, run.directory)
    x = to_pixels(run.data.test[:EXAMPLES])
    x = x.repeat(-(-EXAMPLES // len(x)), 1, 1, 1)[:EXAMPLES]  # very small data sets have fewer test images
    prior = _prior(run)
    networks = {
        task: _detector(run) if task == "anomaly" else graph_for(task, model, prior)
        for task in sorted(run.recipe.tasks)
    }
    examples: dict[Task, Tensor | tuple[Tensor, ...]] = dict.fromkeys(networks, x)
    if prior is not None:
        examples["generate"] = _noise_for(prior)
    if "decode" in networks:
        with torch.no_grad():
            examples["decode"] = graph_for("encode", model)(x)
    int8 = _int8(run, model, prior) if run.recipe.export.precision == "int8" else None
    graphs, golden = export_graphs(networks, examples, run.directory, int8=int8)
    described = {task: graph.model_dump() for task, graph in graphs.items()}
    run.write(GRAPHS, {"tasks": described, "golden": golden.model_dump(), "commit": git_commit()})


def evaluate_stage(run: Run, options: Options) -> None:
    """Graphs -> figures on the test images beside free baselines."""
    _need(run, GRAPHS, "export")
    evaluate(run, options.beside, progress=options.progress)
    for metric in run.read(EVALUATION, "evaluate")["metrics"]:
        beside = ", ".join(f"{name} {value:.5g}" for name, value in metric["baselines"].items())
        tqdm.write(f"{metric['name']} {metric['value']:.5g}  (beside: {beside})")


def calibrate_stage(run: Run, options: Options) -> None:
    """Exported anomaly graph -> threshold, from normal images kept back for it."""
    if "anomaly" in run.recipe.tasks:
        calibrate(run, progress=options.progress)
        content = run.read(CALIBRATION, "calibrate")
        flagged = content["metrics"][0]
        tqdm.write(
            f"threshold {content['calibration']['threshold']:.5g} flags {flagged['value']:.2%} of {flagged['data']}, "
            f"asked for {run.recipe.target_fpr:.2%}"
        )


def verify_stage(run: Run, options: Options) -> None:
    """Everything -> a model directory, checked with onnxruntime alone."""
    _need(run, WEIGHTS, "train")
    verify(assemble(run, next_version(options.models / run.name)))


def publish_stage(run: RunDirectory, options: Options) -> None:
    """The checked directory -> models/<name>/<version>/, all at once."""
    verify(run.path(MODEL))
    target = publish(run, options.models)
    verify(target)
    tqdm.write(f"published {target}")


@dataclass(frozen=True)
class Stage:
    """A step of `fit`; it is done when the run holds the file `leaves`, or never where that is None."""

    run: Callable[[Run, Options], None]
    leaves: str | None


STAGES: dict[str, Stage] = {
    "train": Stage(train_stage, REPORT),
    "prior": Stage(prior_stage, PRIOR),
    "detector": Stage(detector_stage, DETECTOR),
    "export": Stage(export_stage, GRAPHS),
    "evaluate": Stage(evaluate_stage, EVALUATION),
    "calibrate": Stage(calibrate_stage, CALIBRATION),
    "verify": Stage(verify_stage, None),
    "publish": Stage(publish_stage, None),
}


def find_device(name: str) -> torch.device:
    """The device called auto, cpu or cuda; auto takes CUDA where PyTorch sees one.

    Raises:
        DeviceError: CUDA was asked for and is not there, or not for every process.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"--device cuda: PyTorch {torch.__version__} sees no CUDA device. Check `nvidia-smi`, install a CUDA build "
            "of PyTorch, or use --device auto"
        )
    number, devices = (
        int(os.environ.get("LOCAL_RANK", "0")),
        torch.cuda.device_count(),
    )  # torchrun numbers its processes
    if number >= devices:
        raise DeviceError(f"process {number + 1} has no GPU of its own: there are {devices}; lower --nproc-per-node")
    return torch.device("cuda", number)


def check_recipe(recipe: Recipe) -> None:
    """Whether everything that the recipe names exists and fits together, asked before an hour of training.

    Raises:
        RecipeError: It does not; the message says what.
    """
    if missing := sorted(set(recipe.default_for) - set(recipe.tasks)):
        raise RecipeError(f"default_for has {', '.join(missing)}, but `tasks` are {', '.join(recipe.tasks)}")
    model = build(recipe)
    for task in recipe.tasks:
        check_task(task, model)
    check_regularisation(model, recipe.regularisation)
    x = torch.zeros(1, recipe.data.channels, recipe.data.height, recipe.data.width)
    corrupt(x, recipe.corruption, torch.Generator())


def _prior(run: Run) -> Prior | None:
    if "generate" not in run.recipe.tasks:
        return None
    _need(run, PRIOR, "prior")
    return FittedPrior.load(run.path(PRIOR)).network()


def _noise_for(prior: Prior) -> tuple[Tensor, ...]:
    e = torch.randn((EXAMPLES, prior.noise_dim), generator=torch.Generator().manual_seed(0))
    return (e, torch.arange(EXAMPLES) % len(prior.labels) * 1.0) if prior.labels else (e,)


def _detector(run: Run) -> AlignedDetector:
    _need(run, DETECTOR, "detector")
    detector = AlignedDetector(run.recipe.data.height, run.recipe.data.width)
    detector.load_state_dict(torch.load(run.path(DETECTOR), weights_only=True))
    return detector.eval()


def _int8(run: Run, model: nn.Module, prior: Prior | None = None) -> Int8:
    x = to_pixels(run.data.train[: run.recipe.export.calibration_images])
    # As in training: some stay clean.
    images = training_input(x, run.recipe.corruption, torch.Generator().manual_seed(run.recipe.training.seed))
    tasks: tuple[Task, ...] = ("denoise",) if model.latent_dim is None else ("encode", "decode")
    return Int8(
        [graph_for(task, model) for task in tasks],
        images,
        partial(_check_loss, run, graph_for("denoise", model)),
        prior,
        () if prior is None else _noise_for(prior),
    )


def _check_loss(run: Run, network: nn.Module, int8: Callable[[Tensor], Tensor]) -> None:
    before, after = (
        validation_loss(function, run.data.validation, run.recipe, torch.device("cpu")) for function in (network, int8)
    )
    rise = (after - before) / max(before, 1e-12)  # a loss of 0 is possible, if only in theory
    most, loss = run.recipe.export.max_loss_rise, run.recipe.training.loss
    tqdm.write(f"int8: validation {loss} {after:.5f}, {rise:+.1%} of float32's {before:.5f}")
    if not rise <= most:
        raise ExportError(
            f"int8 raises the validation loss ({loss}) by {rise:.1%}, from {before:.5g} to {after:.5g}; allowed are "
            f"{most:.1%} (export.max_loss_rise). Serve float32 instead (export.precision=float32), or allow more"
        )


def _need(run: Run, file: str, made_by: str) -> None:
    if not run.path(file).exists():
        raise RunError(f"{run.directory} has no {file}: run `python -m training {made_by} {run.directory}` first")


def _say_what_was_read(data: Dataset) -> None:
    if rank_and_world()[0]:
        return
    for skipped in data.skipped:
        tqdm.write(f"skipped {skipped.path}: {skipped.reason}")
    tqdm.write(
        f"{data.name}: {len(data.train)} images for training, {len(data.validation)} for validation, "
        f"{len(data.calibration)} for calibration, {len(data.test)} for the figures"
    )
