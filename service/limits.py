"""What models may use. Light, so that the process which tries them can start before anything heavy is imported."""

from dataclasses import dataclass

from service.settings import Settings


@dataclass(frozen=True)
class Limits:
    """How a model is run: threads inside an operator, most images and pixels in one inference, most numbers decoded."""

    threads: int
    max_batch: int
    max_pixels: int
    max_batch_pixels: int = 2**20


@dataclass(frozen=True)
class ProbeLimits:
    """What one child process may use: address space, and seconds of CPU time and on the clock."""

    memory_bytes: int
    timeout_s: int


def run_limits(settings: Settings) -> Limits:
    """Return how the service runs models."""
    return Limits(
        threads=settings.threads,
        max_batch=settings.max_batch,
        max_pixels=settings.max_pixels,
        max_batch_pixels=settings.max_batch_pixels,
    )


def probe_limits(settings: Settings) -> ProbeLimits:
    """Return what a child process may use."""
    return ProbeLimits(settings.probe_memory_bytes, settings.probe_timeout_s)


@dataclass(frozen=True)
class InputLimits:
    """Most pixels of one image or array, images in one request, frames of an animation. From the settings."""

    max_pixels: int
    max_images: int
    max_frames: int
