"""The compiled forward pass for CPUs: kernels in numba, one thread pool, weights in tiles."""
