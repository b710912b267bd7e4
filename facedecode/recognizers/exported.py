"""Programs that a user exported from PyTorch, of one tensor → one tensor: generators of pictures.

Two formats: `torch.export` (.pt2, by `torch.export.save`) and TorchScript (by `torch.jit.save`). A file that would run
more than its graph while it is loaded is refused before (`recognizers/model_file.py`).
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.errors import BadInput
from facedecode.recognizers.model_file import read_model_file, torch_kind


class Exported:
    """A program, without gradients to its weights.

    Attributes:
        sha256: of the file.
        suffix: .pt2, or .pt for TorchScript.
        shape: of one input, without the batch; None where the file does not tell (TorchScript).
        batch: how many inputs it takes at once; None: any number.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], sha256: str, suffix: str, device: torch.device):
        self._run = run
        self.sha256, self.suffix, self.device = sha256, suffix, device
        self.shape: tuple[int, ...] | None = None
        self.batch: int | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """(n, …) → (n, …), float32; of a program of a fixed batch, the last is filled up."""
        inputs = inputs.to(self.device, torch.float32)
        if self.batch is None:
            return self._run(inputs)
        parts = []
        for part in inputs.split(self.batch):
            padded = F.pad(part, [0, 0] * (part.ndim - 1) + [0, self.batch - len(part)])
            parts.append(self._run(padded)[: len(part)])
        return torch.cat(parts)


def load_exported(path: Path, device: str = "cpu") -> Exported:
    """Load an exported program.

    Raises:
        MissingWeights: no such file.
        BadInput: neither format, damaged, holding what could run code, or of several inputs or outputs.
    """
    data = read_model_file(path)
    load = _load_pt2 if torch_kind(path, data) == "exported" else _load_torchscript
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript's age
            return load(io.BytesIO(data), hashlib.sha256(data).hexdigest(), torch.device(device))
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except Exception as error:  # whatever a damaged or foreign file makes PyTorch raise
        said = " ".join(str(error).split())[:160]
        raise BadInput(f"{path}: PyTorch {torch.__version__} cannot load it ({said}); export it again") from None


def _load_pt2(file: io.BytesIO, sha256: str, device: torch.device) -> Exported:
    from torch.export.passes import move_to_device_pass

    logger = logging.getLogger("torch.export")
    disabled, logger.disabled = logger.disabled, True  # what it logs, it raises, too
    try:
        program = torch.export.load(file)
    finally:
        logger.disabled = disabled
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    if len(inputs) != 1 or len(program.graph_signature.user_outputs) != 1:
        raise BadInput("takes or gives several tensors; export a module of one input and one output")
    shape = inputs[0].meta["val"].shape
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    exported = Exported(program.module().requires_grad_(False), sha256, ".pt2", device)
    exported.shape = tuple(int(size) for size in shape[1:])
    exported.batch = shape[0] if isinstance(shape[0], int) else None
    return exported


def _load_torchscript(file: io.BytesIO, sha256: str, device: torch.device) -> Exported:
    module = torch.jit.load(file, map_location=device).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return Exported(module, sha256, ".pt", device)
