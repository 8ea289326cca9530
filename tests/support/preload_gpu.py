"""Given to Dask workers as ``--preload``: gpudrift then finds the GPU there that g++ made, in place of CuPy's.

The environment says where its kernels are, how much memory it has and what tells it from other GPUs. Only gpudrift sees
it: Dask, too, looks for CuPy, and wants more of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gpudrift.backends.cuda import device as cuda
from support import fake_cupy, fake_pylibcudf

CUPY = fake_cupy.made(
    Path(os.environ["EMULATED_KERNELS"]),
    memory=int(os.environ.get("EMULATED_MEMORY", "1073741824")),
    uuid=os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("EMULATED_NAME", "")).encode(),
)
cuda._cupy = lambda: CUPY
sys.modules["cuda.pathfinder"] = CUPY.pathfinder
if "EMULATED_CUDF" in os.environ:
    sys.modules["pylibcudf"] = fake_pylibcudf.made()
