"""7. Applications: six of them, run on the service."""

from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor
from torch.nn import functional as F
from tqdm import tqdm

from training.images.corruptions import gaussian
from training.images.pixels import to_pixels
from training.latents import latents
from training.measure.baselines import median_filter, reduced_rank_regression
from training.measure.pictures import bicubic
from training.measure.psnr import TEST_NOISE_SEED, psnr_db
from training.measure.retrieval import neighbour_accuracy
from training.picture import rows_of_images
from training.restoration.patches import resized
from training.textbook.server import NPY, Server, serve, to_npy
from training.textbook.study import SAMPLE, SEED, Study

ASKED = 100  # images in a request
SHOWN = 10
GALLERY, QUICK_GALLERY = 10_000, 1000  # training images with labels, for the neighbours
KEPT, QUICK_KEPT = 1000, 100  # of them, in a collection of the service
PHOTO_SIDE = 160  # pixels
FILE = "application/vnd.hourglass"
URL = "http://127.0.0.1:8000"
INTRODUCTION = (
    "All of this section uses a running service, `make serve`. The CPU-seconds of the service are not included."
)


def applications(study: Study) -> str:
    """Write a paragraph, a curl command, a figure and a picture for each application of the published models."""
    parts = ["## 7. Six applications", INTRODUCTION]
    with serve(study.models) as server:
        for task, model, make in APPLICATIONS:
            if server.offers(model, task):
                parts += make(study, server)
            else:
                tqdm.write(f"left out: no {model} with the task {task} in {study.models}")
    return "\n\n".join(parts)


def _denoise(study: Study, server: Server) -> Iterator[str]:
    since_s = study.spent_s()
    x = to_pixels(study.data.test[:ASKED])
    x_noisy = gaussian(x, Generator().manual_seed(TEST_NOISE_SEED), mean=0.5, sigma=0.4)
    x_hat = server.images("/denoise", x_noisy, model="digits")
    yield "### Denoising"
    yield (
        f"{ASKED} noisy test digits have a PSNR of {_db(x_noisy, x):.1f} dB. The service raises it to {_db(x_hat, x):.1f} dB, and a "
        f"median filter to {_db(median_filter(x_noisy), x):.1f} dB."
    )
    yield _curl("denoise?model=digits", "noisy.png", "clean.png")
    pictures = rows_of_images({"noisy": x_noisy[:SHOWN], "denoised": x_hat[:SHOWN]})
    yield study.figure("denoise", pictures, "Noisy digits, and the same digits denoised by the service.", since_s)


def _anomaly(study: Study, server: Server) -> Iterator[str]:
    since_s = study.spent_s()
    x = to_pixels(study.data.test[: 2 * ASKED])
    good, bad = x[:ASKED], _damaged(x[ASKED:])
    found = {name: server.verdicts(images, model="digits") for name, images in (("good", good), ("bad", bad))}
    truth = [0] * ASKED + [1] * ASKED
    auroc = roc_auc_score(truth, [verdict["score"] for of_kind in found.values() for verdict in of_kind])
    pca = reduced_rank_regression(study.data.train, None, 32)
    errors = torch.cat([(pca(part) - part).square().flatten(1).mean(1) for part in (good, bad)])
    flagged = {name: np.mean([verdict["is_anomalous"] for verdict in of_kind]) for name, of_kind in found.items()}
    maps = server.images("/anomaly", bad[:SHOWN], model="digits")[:, None]
    yield "### Anomaly detection"
    yield (
        f"A bar of 2x12 pixels is drawn at a random place over {ASKED} test digits, and {ASKED} others stay unchanged. The score "
        f"separates them with an AUROC of {auroc:.3f}; the reconstruction error of PCA with 32 components has "
        f"{roc_auc_score(truth, errors.numpy()):.3f}. The service flags {flagged['bad']:.0%} of the damaged digits and "
        f"{flagged['good']:.0%} of the others."
    )
    yield _curl("anomaly?model=digits", "digit.png", "verdict.json")
    shown = {"whole": x[ASKED:][:SHOWN], "damaged": bad[:SHOWN], "map": (maps / maps.amax((1, 2, 3), keepdim=True))}
    yield study.figure(
        "anomaly", rows_of_images(shown), "Digits, the same with a bar, and the anomaly maps of the service.", since_s
    )


def _generate(study: Study, server: Server) -> Iterator[str]:
    since_s = study.spent_s()
    drawn = torch.cat([server.generate("digits", count=ASKED // 10, seed=SEED, label=str(d)) for d in range(10)])
    labels = torch.arange(10).repeat_interleave(ASKED // 10).to(torch.uint8)
    known = study.digits.train[:GALLERY, None], study.train_labels[:GALLERY]
    gallery = to_pixels(known[0]).flatten(1)
    recognised = neighbour_accuracy(gallery, known[1], drawn.flatten(1), labels)
    real = neighbour_accuracy(
        gallery, known[1], to_pixels(study.data.test[:ASKED]).flatten(1), study.test_labels[:ASKED]
    )  # fmt: skip
    yield "### Generation"
    yield (
        f"Random latents are decoded. The service generates {ASKED // 10} of each digit. A vote of the nearest of {len(gallery):,} "
        f"training images finds the requested label for {recognised:.0%} of them, and the true label for {real:.0%} of real test digits."
    )
    body = '\'{"count": 10, "seed": 0, "label": "7"}\''
    yield f"    curl -d {body} -H 'Content-Type: application/json' '{URL}/generate?model=digits' -o sevens.zip"
    rows = {f"label {d}": drawn[d * (ASKED // 10) :][:SHOWN] for d in (0, 3, 7)}
    yield study.figure("generate", rows_of_images(rows), "Generated digits, ten of three labels.", since_s)


def _features(study: Study, server: Server) -> Iterator[str]:
    since_s = study.spent_s()
    count = QUICK_GALLERY if study.is_quick else GALLERY

    def encode(x: Tensor) -> Tensor:
        return torch.cat([server.images("/encode", part, model="digits") for part in torch.split(x, 250)])

    known, labels = study.digits.train[:count, None], study.train_labels[:count]
    gallery, test = latents(encode, known), latents(encode, study.data.test[:500])
    accuracy = neighbour_accuracy(gallery, labels, test, study.test_labels[:500])
    pixels = neighbour_accuracy(
        to_pixels(known).flatten(1), labels, to_pixels(study.data.test[:500]).flatten(1), study.test_labels[:500]
    )
    kept = QUICK_KEPT if study.is_quick else KEPT
    for i in range(kept):
        server.keep("digits", str(i), to_pixels(known[i : i + 1]), label=str(int(labels[i])), model="digits")
    found = server.classes("digits", to_pixels(study.data.test[:ASKED]), k=5)
    right = np.mean([int(label) == int(truth) for label, truth in zip(found, study.test_labels, strict=False)])
    nearest = torch.cdist(test[:SHOWN], gallery).topk(3, largest=False).indices.T  # (3, SHOWN)
    yield "### Features"
    yield (
        f"The 32 latents are features for search and classification. A vote of the five nearest of {count:,} training digits with "
        f"labels is right for {accuracy:.1%} of 500 test digits by latents, and for {pixels:.1%} by all 784 pixels. The encoder was "
        "trained without labels."
    )
    yield _curl("encode?model=digits", "digit.png", "latent.json")
    yield (
        f"A collection of the service stores latents with labels and does the voting. With {kept:,} digits, it classifies "
        f"{right:.0%} of {ASKED} test digits correctly."
    )
    yield (
        f"    curl -T seven.png '{URL}/collections/digits/items/1?label=7&model=digits'\n"
        f"    curl --data-binary @digit.png '{URL}/collections/digits/classify?k=5'"
    )
    shown = {"asked": to_pixels(study.data.test[:SHOWN])} | {
        f"nearest {i + 1}": to_pixels(known[row]) for i, row in enumerate(nearest)
    }
    yield study.figure("features", rows_of_images(shown), "Test digits above their nearest training digits.", since_s)


def _compress(study: Study, server: Server) -> Iterator[str]:
    since_s = study.spent_s()
    x = to_pixels(study.data.test[:ASKED])
    file = server.post("/compress", to_npy(x), kind=NPY, accept=FILE, model="digits-compressed")
    x_hat = torch.from_numpy(np.load(BytesIO(server.post("/decompress", file, kind=FILE, accept=NPY))))
    ours, (jpeg, jpeg_db) = _db(x_hat, x), _jpeg(x, _db(x_hat, x))
    yield "### Compression"
    yield (
        f"Only the latents are stored, rounded and coded. {ASKED} test digits become one file of {len(file):,} bytes, "
        f"{len(file) / ASKED:.1f} for each, with a PSNR of {ours:.1f} dB. One JPEG of all of them needs {jpeg / ASKED:.1f} bytes each for "
        f"{jpeg_db:.1f} dB."
    )
    yield _curl("compress?model=digits-compressed", "digit.png", "digit.hg")
    pictures = rows_of_images({"original": x[:SHOWN], "decompressed": x_hat[:SHOWN]})
    yield study.figure("compress", pictures, "Digits before and after.", since_s)


def _enhance(study: Study, server: Server) -> Iterator[str]:
    since_s = study.spent_s()
    with Image.open(SAMPLE / "hazelnut.jpg") as image:
        photo = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    top, left = ((side - PHOTO_SIDE) // 2 for side in photo.shape[1:])
    photo = photo[:, top : top + PHOTO_SIDE, left : left + PHOTO_SIDE]
    small, x = to_pixels(resized(photo, PHOTO_SIDE // 2, PHOTO_SIDE // 2))[None], to_pixels(photo)[None]
    x_hat, enlarged = server.images("/enhance", small, model="photo-x2"), bicubic(small, 2)
    yield "### Enhancement"
    yield (
        f"A network adds detail to a small picture. A photograph at half its size is enlarged with a PSNR of {_db(x_hat, x):.2f} dB; "
        f"bicubic interpolation gives {_db(enlarged, x):.2f} dB."
    )
    yield _curl("enhance", "small.jpg", "large.jpg")
    pictures = rows_of_images({"bicubic": enlarged, "enhanced": x_hat.clamp(0, 1), "original": x})
    yield study.figure("enhance", pictures, "A hazelnut at half its size, enlarged twice.", since_s)


Application = Callable[[Study, Server], Iterator[str]]
# The task, the model that is asked, and what is shown.
APPLICATIONS: tuple[tuple[str, str, Application], ...] = (
    ("denoise", "digits", _denoise),
    ("anomaly", "digits", _anomaly),
    ("generate", "digits", _generate),
    ("encode", "digits", _features),
    ("compress", "digits-compressed", _compress),
    ("enhance", "photo-x2", _enhance),
)


def _curl(path: str, source: str, target: str) -> str:
    return f"    curl --data-binary @{source} '{URL}/{path}' -o {target}"


def _db(x_hat: Tensor, x: Tensor) -> float:
    return psnr_db(F.mse_loss(x_hat, x).item())


def _damaged(x: Tensor) -> Tensor:
    """Draw a bright bar of 2x12 pixels at a random position of every image."""
    out, generator = x.clone(), Generator().manual_seed(SEED)
    for image in out:
        top, left = (int(torch.randint(28 - side, (1,), generator=generator)) for side in (2, 12))
        image[:, top : top + 2, left : left + 12] = 1.0
    return out


def _jpeg(x: Tensor, wanted_db: float) -> tuple[int, float]:
    """Return bytes and PSNR of the smallest JPEG of at least `wanted_db`, or of the best one.

    All images are on one sheet of ten columns.
    """
    sheet = x.reshape(-1, 10, 28, 28).permute(0, 2, 1, 3).reshape(-1, 280)
    image = Image.fromarray((sheet * 255).round().byte().numpy())
    found = (0, 0.0)
    for quality in range(1, 101):
        file = BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        with Image.open(file) as decoded:
            found = len(file.getvalue()), _db(to_pixels(torch.from_numpy(np.array(decoded))), sheet)
        if found[1] >= wanted_db:
            break
    return found
