"""Device errors: which ones a process survives."""

_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED")


def is_fatal(error: BaseException) -> bool:
    """Whether an error leaves the CUDA context broken, so that nothing works until a new process starts.

    Out of memory is not such an error: the allocation failed and nothing else, and the next, smaller one may work.
    Everything else that CUDA reports ("CUDA error: ...", and the same from cuBLAS and cuDNN) is sticky.
    """
    message = str(error)
    if type(error).__name__ == "OutOfMemoryError" or any(text in message for text in _OUT_OF_MEMORY):
        return False
    return "CUDA error" in message or type(error).__name__ == "AcceleratorError"
