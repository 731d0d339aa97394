"""Which errors of a device end the process."""

import pytest
import torch

from palimpsest.lm.faults import is_fatal


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Expected all tensors to be on the same device, but found CUDA and CPU"),
        ValueError("a plain bug"),
    ],
)
def test_a_process_goes_on_after(error):
    assert not is_fatal(error)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: device-side assert triggered",
        "CUDA error: unspecified launch failure",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
    ],
)
def test_a_broken_context_ends_it(message):
    assert is_fatal(RuntimeError(message))
