"""Limits of models and requests. Few imports, so that the probing child process starts quickly."""

from dataclasses import dataclass

from service.settings import Settings

TILED_SHARE = 5  # an image takes 1 + 4 bytes a value as floats, and 1 as bytes


@dataclass(frozen=True)
class Limits:
    """Limits of a model: threads per operator, images and pixels per inference, and decoded values.

    A `max_batch_pixels` of 0 leaves the pixels of an inference to the device.
    """

    threads: int
    max_batch: int
    max_pixels: int
    max_batch_pixels: int = 0


@dataclass(frozen=True)
class ProbeLimits:
    """Limits of a probing child process: address space, and seconds of CPU and wall time."""

    memory_bytes: int
    timeout_s: int


def run_limits(settings: Settings) -> Limits:
    """Return the limits of models from the settings."""
    return Limits(
        threads=settings.threads,
        max_batch=settings.max_batch,
        max_pixels=settings.max_pixels,
        max_batch_pixels=settings.max_batch_pixels,
    )


def probe_limits(settings: Settings) -> ProbeLimits:
    """Return the limits of a probing child process from the settings."""
    return ProbeLimits(settings.probe_memory_bytes, settings.probe_timeout_s)


@dataclass(frozen=True)
class InputLimits:
    """Limits of inputs: pixels of an image or array, images of a request, pages of a TIFF."""

    max_pixels: int
    max_images: int
    max_frames: int

    @property
    def max_tiled_pixels(self) -> int:
        """Most pixels of an image file that runs in tiles, and so is held as bytes and never as floats."""
        return TILED_SHARE * self.max_pixels
