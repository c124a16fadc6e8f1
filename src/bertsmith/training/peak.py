"""The GEMM peak of this machine: what its matrix products can do at best, probed in a moment."""

from __future__ import annotations

import platform
import time

import torch


def gemm_peak(dtype: torch.dtype, device: torch.device, *, seconds: float = 0.15) -> float:
    """Measure the best rate of a matrix product of the shapes that encoders have, in FLOP/s.

    The best of several runs counts, so that a busy moment does not spoil it.
    """
    rows, width, wide = 1024, 768, 3072
    left = torch.randn(rows, width, device=device).to(dtype)
    right = torch.randn(width, wide, device=device).to(dtype)
    best = float("inf")
    with torch.inference_mode():
        torch.mm(left, right)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            begin = time.perf_counter()
            torch.mm(left, right)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - begin)
    return 2 * rows * width * wide / best


def has_fast_bf16(device: torch.device) -> bool:
    """True where bf16 matrix products are at least a quarter faster than fp32 ones.

    An x86 processor says so itself; a race of the two on a busy machine would give one answer today and another
    tomorrow, and with it other weights.
    """
    if device.type == "mps":
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine().lower() in {"x86_64", "amd64"}:
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return gemm_peak(torch.bfloat16, device) > 1.25 * gemm_peak(torch.float32, device)
