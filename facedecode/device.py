"""Torch devices by their names, and the precision of what they compute."""

from __future__ import annotations

from facedecode.errors import UsageError


def exact_fp32() -> None:
    """Compute convolutions in fp32 where fp32 is asked for, for the rest of this process.

    By default PyTorch computes them in TF32 (10 bits of mantissa) on recent NVIDIA GPUs, and templates are then not
    the fp32 ones that stores record. The command line calls this at its start; in a notebook, call it yourself.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False


def find_device(name: str, gpu: int | None = None) -> str:
    """A torch device by its name; `auto` takes CUDA where it works.

    gpu: the one of this process, where several processes share the work.

    Raises UsageError: an unknown name, or a device that this machine does not have.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if gpu is not None and name.startswith("cuda"):
        if name != "cuda":
            raise UsageError(f"--device {name}: each process takes a GPU of its own; use --device cuda")
        name = f"cuda:{gpu}"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise UsageError(f"--device {name}: no such device; use auto, cpu, cuda, cuda:N or mps") from None
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (torch.device(name).index or 0) >= counts.get(kind, 0):
        raise UsageError(f"--device {name}: torch finds no such device on this machine; use --device cpu")
    return name
