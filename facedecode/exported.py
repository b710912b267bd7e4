"""Programs that a user exported from PyTorch, loaded without running what a pickle in them would carry.

Two formats: `torch.export` (.pt2, by `torch.export.save`) and TorchScript (by `torch.jit.save`). Both are zip files of
a graph and tensors. torch's own loader of the first falls back to unpickling anything; here a file that would need
that is refused before it is loaded. A program computes what its author wrote, all the same: take one from whom you
trust.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.errors import BadInput, MissingWeights

# Symbolic sizes, such as `Mul(Integer(2), Symbol('s0', integer=True))`. torch evaluates them as Python, so nothing but
# constructors (an upper-case letter first), numbers and names may be in them.
_SIZE = re.compile(r"(?:'\w+'|[\w\s()+\-*/,=<>])*")
_CALL = re.compile(r"\b[a-z_]\w*\s*\(")


class Exported:
    """A program of one tensor → one tensor, without gradients to its weights.

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
        BadInput: neither format, damaged, holding pickled objects or compiled code, or of several inputs.
    """
    if not path.is_file():
        raise MissingWeights(f"{path}: no such file; give a program saved by torch.export.save or torch.jit.save")
    try:
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            if len(names) < len(archive.namelist()):  # of two of one name, torch might read the other
                raise BadInput(f"{path}: a damaged program: it holds two parts of one name")
            if "archive_format" in names:
                _refuse_code(archive, names, path)
            elif "constants.pkl" not in names or not any(name.startswith("code/") for name in names):
                raise BadInput(f"{path}: no exported program; save one by torch.export.save or torch.jit.save")
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise BadInput(f"{path}: no exported program that can be read ({_first_line(error)})") from None
    load = _load_pt2 if "archive_format" in names else _load_torchscript
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript's age
            return load(io.BytesIO(data), hashlib.sha256(data).hexdigest(), torch.device(device))
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except Exception as error:  # whatever torch makes of a damaged or foreign file
        raise BadInput(f"{path}: torch cannot load it ({_first_line(error)})") from None


def _refuse_code(archive: zipfile.ZipFile, names: dict[str, str], path: Path) -> None:
    """Refuse what torch.export.load would unpickle or run, beside the graph."""
    refused = f"{path}: holds {{}}, which could run anything; export a module of plain tensors"
    if any(name.startswith(("data/aotinductor/", "data/executorch/")) for name in names):
        raise BadInput(refused.format("compiled code"))
    for name, whole in names.items():
        if name.endswith(("_weights_config.json", "_constants_config.json")):
            entries = json.loads(archive.read(whole))["config"].values()
            if any(entry["use_pickle"] or not _is_tensor(entry["path_name"]) for entry in entries):
                raise BadInput(refused.format("pickled objects"))
        elif name.startswith("data/sample_inputs/"):
            try:
                torch.load(io.BytesIO(archive.read(whole)), weights_only=True)
            except Exception:
                raise BadInput(refused.format("pickled objects")) from None
        elif name.startswith("models/"):
            for text in _expressions(json.loads(archive.read(whole))):
                if "__" in text or _CALL.search(text) or not _SIZE.fullmatch(text):
                    raise BadInput(refused.format(f"the expression {text[:40]!r}"))


def _is_tensor(path_name: str) -> bool:
    return path_name.startswith(("weight_", "tensor_"))


def _expressions(node: object) -> list[str]:
    """All symbolic sizes of a graph."""
    if isinstance(node, dict):
        own = [str(value) for key, value in node.items() if key == "expr_str"]
        return own + [text for value in node.values() for text in _expressions(value)]
    return [text for value in node for text in _expressions(value)] if isinstance(node, list) else []


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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
