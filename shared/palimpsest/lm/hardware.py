"""What this machine has: cores, a device, and the dtype it is fastest with."""

import os
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from palimpsest.errors import InvalidArgument, Reason


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


def pick_dtype(dtype: str, device: torch.device, compiled: bool, hidden: int) -> torch.dtype:
    """The dtype a setting means; "auto" is the fastest for single tokens on this machine.

    On CPUs this is measured, on one matrix too large for its caches. A compiled pass is bound by memory, so
    bfloat16 is taken at once where there is one.
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
    if compiled:
        return torch.bfloat16
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        w, x = torch.ones((64 << 20) // hidden, hidden, dtype=kind), torch.ones(1, hidden, dtype=kind)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            F.linear(x, w)
            times.append(time.perf_counter() - start)
        seconds[kind] = min(times)
    return min(seconds, key=lambda kind: seconds[kind])
