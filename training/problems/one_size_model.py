"""The stages after training for images of one size: prior, detector, graphs, metrics, threshold."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from service.contract.manifest import Golden, Graph, InputSpec, Metric, Task
from service.contract.sections import Calibration, Examples, Generate, Latent
from training.anomaly.aligned import AlignedDetector, learn_aligned_detector
from training.architectures import build
from training.calibration import calibrate, too_few
from training.card import PICTURE
from training.checkpoint import WEIGHTS
from training.config import Recipe, RecipeError
from training.errors import ExportError, RunError
from training.evaluate import evaluate
from training.export import Int8, export_graphs
from training.files import write_atomically
from training.graphs import check_task, graph_for
from training.images.corruptions import corrupt, training_input
from training.images.dataset import Dataset, load_data
from training.images.pixels import to_pixels
from training.latents import latents
from training.manifest import Finished, describe_data, git_commit
from training.measure.psnr import TEST_NOISE_SEED
from training.picture import rows_of_images
from training.prior import FittedPrior, Prior, fit_prior
from training.problems.one_size import job, trained, validation_loss
from training.problems.problem import Places, Problem, say
from training.regularisation import check_regularisation
from training.run import CALIBRATION, DETECTOR, EVALUATION, GRAPHS, MODEL, PRIOR, Run, Sources, read_run_file

EXAMPLES = 16  # real images that graphs are compared with PyTorch on
SHOWN_IMAGES = 12

OneSizeRun = Run[Recipe, Dataset]


def read(recipe: Recipe, sources: Sources, progress: bool) -> Dataset:
    """Read the images of the recipe."""
    return load_data(recipe.data, sources.data, seed=recipe.training.seed, progress=progress)


def check_recipe(recipe: Recipe) -> None:
    """Check before training that the names in the recipe exist and its options are compatible.

    Raises:
        RecipeError: A name is unknown, or options are incompatible.
    """
    if missing := sorted(set(recipe.default_for) - set(recipe.tasks)):
        raise RecipeError(f"default_for has {', '.join(missing)}, but `tasks` are {', '.join(recipe.tasks)}")
    model = build(recipe)
    for task in recipe.tasks:
        check_task(task, model)
    check_regularisation(model, recipe.regularisation)
    x = torch.zeros(1, recipe.data.channels, recipe.data.height, recipe.data.width)
    corrupt(x, recipe.corruption, Generator())


def prior_stage(run: OneSizeRun, places: Places) -> None:
    """Fit the prior of `generate` to the latents of the training images."""
    if "generate" not in run.recipe.tasks:
        return
    run.need(WEIGHTS, "train")
    z = latents(graph_for("encode", trained(run.recipe, run.directory)), run.data.train)
    prior = fit_prior(z, run.data.train_labels, run.recipe.prior, seed=run.recipe.training.seed)
    prior.save(run.path(PRIOR))
    each = f" for each of {len(prior.labels)} labels" if prior.labels else ""
    tqdm.write(f"prior: {prior.network().components} Gaussians{each}, fitted to {len(z)} latents")


def detector_stage(run: OneSizeRun, places: Places) -> None:
    """Train the detector of `anomaly` on the training images, independently of the autoencoder."""
    if "anomaly" not in run.recipe.tasks:
        return
    for made_before in (GRAPHS, EVALUATION, CALIBRATION):  # of another detector, or from when a model had none
        run.path(made_before).unlink(missing_ok=True)
    detector = learn_aligned_detector(run.data.train, seed=run.recipe.training.seed, progress=places.progress)
    with write_atomically(run.path(DETECTOR)) as file:
        torch.save(detector.state_dict(), file)


def export_stage(run: OneSizeRun, places: Places) -> None:
    """Export one ONNX graph per task, compared with PyTorch; int8 if the recipe says so."""
    run.need(WEIGHTS, "train")
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


def evaluate_stage(run: OneSizeRun, places: Places) -> None:
    """Measure the graphs on the test images, with baselines."""
    run.need(GRAPHS, "export")
    evaluate(run, tuple(map(_open, places.beside)), progress=places.progress)
    say(Metric.model_validate(metric) for metric in run.read(EVALUATION, "evaluate")["metrics"])


def calibrate_stage(run: OneSizeRun, places: Places) -> None:
    """Calibrate the threshold of the exported anomaly graph on the calibration images."""
    if "anomaly" in run.recipe.tasks:
        calibrate(run, progress=places.progress)
        content = run.read(CALIBRATION, "calibrate")
        flagged = content["metrics"][0]
        tqdm.write(
            f"threshold {content['calibration']['threshold']:.5g} flags {flagged['value']:.2%} of {flagged['data']}, "
            f"asked for {run.recipe.target_fpr:.2%}"
        )


# Stages between training and the version's directory, and the file that each leaves: where it is, the stage is done.
LATER_STAGES: dict[str, tuple[Callable[[OneSizeRun, Places], None], str]] = {
    "prior": (prior_stage, PRIOR),
    "detector": (detector_stage, DETECTOR),
    "export": (export_stage, GRAPHS),
    "evaluate": (evaluate_stage, EVALUATION),
    "calibrate": (calibrate_stage, CALIBRATION),
}


def finish(run: OneSizeRun, places: Places) -> Finished:
    """Run the stages that are not done yet, then assemble the version."""
    for name, (stage, leaves) in LATER_STAGES.items():
        asks_anew = name == "evaluate" and places.beside  # figures without those of `beside` are not what was asked for
        if asks_anew or not run.path(leaves).exists():
            stage(run, places)
    return assemble(run, places)


def assemble(run: OneSizeRun, places: Places) -> Finished:
    """Copy the files of a version, except card and manifest, to the run's `model/`, and return the results."""
    recipe, data, directory = run.recipe, run.data, run.path(MODEL)
    graphs, evaluation = run.read(GRAPHS, "export"), run.read(EVALUATION, "evaluate")
    metrics, limits = list(evaluation["metrics"]), list(recipe.limits)
    calibration: Calibration | None = None
    if "anomaly" in recipe.tasks:
        calibrated = run.read(CALIBRATION, "calibrate")
        calibration = Calibration.model_validate(calibrated["calibration"])
        metrics += calibrated["metrics"]
        limits += [sentence] if (sentence := too_few(calibration)) else []
    tasks = {task: Graph.model_validate(graphs["tasks"][task]) for task in recipe.tasks}
    golden = Golden.model_validate(graphs["golden"])
    for file in [graph.file for graph in tasks.values()] + [golden.file]:
        shutil.copyfile(run.path(file), directory / file)
    with write_atomically(directory / PICTURE) as out:
        out.write(_picture(run))
    return Finished(
        architecture=recipe.architecture.name,
        tasks=tasks,
        input=InputSpec(**recipe.data.model_dump(include={"channels", "height", "width", "resize"})),
        golden=golden,
        data=describe_data(
            name=data.name, source=data.source, licence=data.licence, sha256=data.sha256, split=data.split
        ),
        metrics=[Metric.model_validate(m) for m in metrics],
        commit=graphs["commit"],
        limits=limits,
        sections={
            "latent": Latent.model_validate(evaluation["latent"]) if evaluation["latent"] else None,
            "examples": Examples.model_validate(evaluation["examples"]) if evaluation.get("examples") else None,
            "anomaly": calibration,
            "generate": _generate(run),
        },
    )


ONE_SIZE = Problem(
    takes=("data", "beside"),
    read=read,
    summary=lambda data: data.summary,
    finish=finish,
    job=job,
    check=check_recipe,
    later=("export.", "prior.", "tasks "),
    made_later=(PRIOR, GRAPHS, EVALUATION, CALIBRATION, MODEL),  # `publish` alone would publish the old graphs
)


def _open(directory: Path) -> OneSizeRun:
    begun = read_run_file(directory)
    if not isinstance(begun.recipe, Recipe):
        raise RunError(
            f"{directory} is a run of kind {begun.recipe.kind}, whose figures cannot be compared with others"
        )
    return Run(directory, begun.name, begun.recipe, partial(read, begun.recipe, begun.sources, False))


def _generate(run: OneSizeRun) -> Generate | None:
    if "generate" not in run.recipe.tasks:
        return None
    prior = FittedPrior.load(run.path(PRIOR))
    return Generate(labels=prior.labels, shares=prior.shares)


def _picture(run: OneSizeRun) -> bytes:
    x = to_pixels(run.data.test[:SHOWN_IMAGES])
    x_noisy = corrupt(x, run.recipe.corruption, Generator().manual_seed(TEST_NOISE_SEED))
    with torch.no_grad():
        x_hat = graph_for("denoise", trained(run.recipe, run.directory))(x_noisy)
    return rows_of_images({"original": x, "noisy": x_noisy, "denoised": x_hat})


def _prior(run: OneSizeRun) -> Prior | None:
    if "generate" not in run.recipe.tasks:
        return None
    run.need(PRIOR, "prior")
    return FittedPrior.load(run.path(PRIOR)).network()


def _noise_for(prior: Prior) -> tuple[Tensor, ...]:
    e = torch.randn((EXAMPLES, prior.noise_dim), generator=Generator().manual_seed(0))
    return (e, torch.arange(EXAMPLES) % len(prior.labels) * 1.0) if prior.labels else (e,)


def _detector(run: OneSizeRun) -> AlignedDetector:
    run.need(DETECTOR, "detector")
    detector = AlignedDetector(run.recipe.data.height, run.recipe.data.width)
    detector.load_state_dict(torch.load(run.path(DETECTOR), weights_only=True))
    return detector.eval()


def _int8(run: OneSizeRun, model: nn.Module, prior: Prior | None = None) -> Int8:
    x = to_pixels(run.data.train[: run.recipe.export.calibration_images])
    # As in training: some stay clean.
    images = training_input(x, run.recipe.corruption, Generator().manual_seed(run.recipe.training.seed))
    tasks: tuple[Task, ...] = ("denoise",) if model.latent_dim is None else ("encode", "decode")
    return Int8(
        [graph_for(task, model) for task in tasks],
        images,
        partial(_check_loss, run, graph_for("denoise", model)),
        prior,
        () if prior is None else _noise_for(prior),
    )


def _check_loss(run: OneSizeRun, network: nn.Module, int8: Callable[[Tensor], Tensor]) -> None:
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
