"""torch's own settings, explicitly one way or the other; see `interpreter` for what comes before the start."""

from typing import Any


def apply_settings(*, strict: bool, tf32: bool, threads: int) -> None:
    """Strict: deterministic kernels or an error, no autotuning. Seeded: kernels free, autotuning off all the same.

    `fill_uninitialized_memory` costs some 15% and buys nothing where every element is written before it is read.
    """
    import torch

    utils: Any = torch.utils
    torch.set_num_threads(threads)
    # The same switch as `use_deterministic_algorithms(strict)`, which also imports torch's compiler: 4 s.
    torch.set_deterministic_debug_mode("error" if strict else "default")
    utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = strict
    backends: Any = torch.backends  # torch's stubs lack these
    backends.mkldnn.deterministic = strict
    for part in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        part.fp32_precision = "tf32" if tf32 else "ieee"
    for part in (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn):
        part.fp32_precision = "ieee"
