"""Devices of training."""

import os

import torch

from training.errors import DeviceError


def find_device(name: str) -> torch.device:
    """Return the device called auto, cpu or cuda; auto takes CUDA where PyTorch sees one.

    Raises:
        DeviceError: CUDA was requested but is not available, or not for every process.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"--device cuda: PyTorch {torch.__version__} sees no CUDA device. Check `nvidia-smi`, install a CUDA build "
            "of PyTorch, or use --device auto"
        )
    number, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()  # torchrun numbers processes
    if number >= devices:
        raise DeviceError(f"process {number + 1} has no GPU of its own: there are {devices}; lower --nproc-per-node")
    return torch.device("cuda", number)


def device_name(device: torch.device) -> str:
    """Return the name of a device for cards."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
