"""Whether bfloat16 is faster than float32 on this processor."""

from __future__ import annotations

import torch

INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # AMD and Intel; Intel; ARM


def why_slow() -> str:
    """Why bfloat16 would be slower than float32 here, in words; empty where it is faster.

    Decided by what the processor has, not by a stopwatch: a run that is continued has to decide as it did before.
    Without such instructions oneDNN converts every number to float32 and back.
    """
    if not torch.backends.mkldnn.is_available():
        return "this torch comes without oneDNN, which computes in it"
    capabilities = torch.cpu.get_capabilities()
    if not any(capabilities.get(name) for name in INSTRUCTIONS):
        return f"this processor has none of {', '.join(INSTRUCTIONS)}"
    return ""
