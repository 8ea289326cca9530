"""The CUDA engine: kernels/count.cu through CuPy, and columns read by cuDF."""

from __future__ import annotations
