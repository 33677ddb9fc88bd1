"""Distributed training over several processes, started by torchrun."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed as dist


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started (gloo on CPU, nccl on CUDA); alone, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def first_process_first() -> Iterator[None]:
    """Run the block in the first process, then in all others, which read the files that the first one wrote."""
    rank, world = rank_and_world()
    if rank > 0:
        dist.barrier()
    yield
    if rank == 0 and world > 1:
        dist.barrier()


def rank_and_world() -> tuple[int, int]:
    """Return the rank of the calling process and the number of processes: (0, 1) without torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_processes(value: float) -> float:
    """Return the sum of `value` over all processes, in each of them."""
    if not dist.is_initialized():
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total.item())
