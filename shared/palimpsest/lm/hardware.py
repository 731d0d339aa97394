"""What this machine has: cores, a device, and the dtype it is fastest with."""

import os
from pathlib import Path

import torch

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.processor import bfloat16_products


def physical_cores() -> int:
    """Cores this process may use: hyperthreads count once, and a container's CPU limit counts."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in cpus:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else cpu)
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()
        if limit != "max":
            return max(1, min(len(cores), int(limit) // int(period)))
    return max(1, len(cores))


def pick_device(device: str) -> torch.device:
    """The device a setting means; "auto" is CUDA if there is any."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def pick_dtype(dtype: str, device: torch.device, compiled: bool) -> torch.dtype:
    """The dtype a setting means; "auto" is the fastest for single tokens on this kind of machine.

    It follows from what the processor can do, and is never timed: a busy moment must not change a model's bits. A
    compiled pass is bound by memory, so it takes bfloat16 anywhere. Torch does only where the processor multiplies
    bfloat16 itself; elsewhere a product is slower than in float32.
    """
    if dtype != "auto":
        found = getattr(torch, dtype, None)
        if not isinstance(found, torch.dtype) or not found.is_floating_point:
            raise InvalidArgument(
                Reason.INVALID_REQUEST, f"{dtype!r} is no dtype for a model; use auto, float32 or bfloat16."
            )
        return found
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if compiled or bfloat16_products() else torch.float32
