"""A user's own network behind one face: an ONNX session, an exported program, or TorchScript."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from facedecode.errors import BadInput, MissingWeights, UsageError, some_of
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


class Network(ABC):
    """What is known of a model before it is tried.

    Attributes:
        size: of its input, px; None where any does.
        batches: the fewest and the most pictures that it takes at once; None for no upper bound.
        layers: modules whose outputs can be had.
        no_layers: why there are none.
        gradients: they may flow; trying it tells.
    """

    size: int | None = None
    batches: tuple[int, int | None] = (1, None)
    layers: tuple[str, ...] = ()
    no_layers = ""
    gradients = True

    @abstractmethod
    def __call__(self, pictures: Tensor) -> Any:
        """Outputs of normalized pictures, float32 (n, 3, S, S)."""

    def maps(self, pictures: Tensor, layers: Sequence[str], all_of_it: bool) -> tuple[list[Tensor], Any]:
        """Outputs of `layers` in the order in which they are computed, and the network's own (None unless asked)."""
        raise UsageError(self.no_layers)


class OnnxNetwork(Network):
    """An ONNX model in ONNX Runtime: numbers in, numbers out."""

    gradients = False
    no_layers = "ONNX Runtime shows no layers inside a model"

    def __init__(self, path: Path, data: bytes, device: str):
        try:
            import onnxruntime
        except ImportError:
            raise MissingWeights(f"{path}: needs ONNX Runtime: pip install 'facedecode[onnx]'") from None
        kind = torch.device(device).type
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
        if provider not in onnxruntime.get_available_providers():
            raise UsageError(
                f"--device {device}: the onnxruntime installed here computes on {_providers(onnxruntime)} only; use "
                "--device cpu, or install onnxruntime-gpu"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is said by an exception, too
        # Threads that wait for work by spinning would slow down those of PyTorch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Tensors in other files would not be in the hash of this one.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/nonexistent")
        settings = {"device_id": torch.device(device).index or 0, "use_tf32": 0} if kind == "cuda" else {}
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=[(provider, settings)])
        except Exception as error:  # ONNX Runtime's own classes share no base
            said = " ".join(str(error).split())
            if "xternal data" in said:
                raise BadInput(
                    f"{path}: its tensors lie in another file; save the model as one: torch.onnx.export(…, "
                    "external_data=False)"
                ) from None
            raise BadInput(f"{path}: ONNX Runtime cannot read it ({said[:160]}); export it again") from None
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise BadInput(f"{path}: takes {len(inputs)} inputs ({some_of([each.name for each in inputs])}), not one")
        if inputs[0].type != "tensor(float)":
            raise BadInput(f"{path}: takes {inputs[0].type}, not float32; export it for float32 pictures")
        self._input = inputs[0].name
        whole = [n if isinstance(n, int) and n > 0 else None for n in inputs[0].shape]
        self.size = _square(path, whole)
        self.batches = (whole[0] or 1, whole[0])

    def __call__(self, pictures: Tensor) -> Any:
        if torch.is_grad_enabled() and pictures.requires_grad:
            raise UsageError("an ONNX model is black-box: no gradients flow through it")
        given = {self._input: pictures.detach().float().cpu().numpy()}
        try:
            found = self._session.run(None, given)
        except Exception as error:  # ONNX Runtime's own classes share no base
            raise RuntimeError(" ".join(str(error).split())) from None
        return tuple(torch.from_numpy(each).to(pictures.device) for each in found)


class ExportedNetwork(Network):
    """A program of torch.export: a graph of operators, which remembers the modules that they came from."""

    no_layers = "its program does not remember the modules that it came from"

    def __init__(self, path: Path, data: bytes, device: str):
        try:
            with _silent("torch.export"):
                program = torch.export.load(io.BytesIO(data))
                if torch.device(device).type != "cpu":
                    from torch.export.passes import move_to_device_pass

                    program = move_to_device_pass(program, device)
                self._graph = program.module()
        except Exception as error:  # whatever a damaged program makes PyTorch raise
            said = " ".join(str(error).split())[:160]
            raise BadInput(
                f"{path}: PyTorch {torch.__version__} cannot load this program ({said}); export it again"
            ) from None
        self._graph.requires_grad_(False)
        inputs = [node for node in self._graph.graph.nodes if node.op == "placeholder"]
        if len(inputs) != 1:
            raise BadInput(f"{path}: takes {len(inputs)} inputs ({some_of([node.name for node in inputs])}), not one")
        value = inputs[0].meta.get("val")
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            what = value.dtype if isinstance(value, Tensor) else "no tensor"
            raise BadInput(f"{path}: takes {what}, not float32 pictures; export it for these")
        whole = [n if isinstance(n, int) else None for n in value.shape]
        self.size = _square(path, whole)
        self.batches = (whole[0], whole[0]) if whole[0] else _range(program, value.shape[0])
        self._last: dict[str, fx.Node] = {}
        for node in self._graph.graph.nodes:
            if isinstance(node.meta.get("val"), Tensor):
                for name, _ in (node.meta.get("nn_module_stack") or {}).values():
                    if name:
                        self._last[name] = node
        self.layers = tuple(self._last)

    def __call__(self, pictures: Tensor) -> Any:
        try:
            return self._graph(pictures)
        except AssertionError as error:  # PyTorch's guards of sizes
            raise RuntimeError(str(error)) from None

    def maps(self, pictures: Tensor, layers: Sequence[str], all_of_it: bool) -> tuple[list[Tensor], Any]:
        wanted = [self._last[layer] for layer in layers]
        run = _Keeping(self._graph, wanted, stop=not all_of_it)
        try:
            output = run.run(pictures)
        except _Enough:
            output = None
        return run.kept, output


class ScriptNetwork(Network):
    """TorchScript."""

    no_layers = "TorchScript shows no layers inside a model; save it by torch.export.save"

    def __init__(self, path: Path, data: bytes, device: str):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is deprecated, and there are files of it
                self._module = torch.jit.load(io.BytesIO(data), map_location=device).eval()
        except Exception as error:
            said = " ".join(str(error).split())[:160]
            raise BadInput(f"{path}: PyTorch {torch.__version__} cannot load this TorchScript ({said})") from None
        for parameter in self._module.parameters():
            parameter.requires_grad_(False)
        arguments = [each for each in self._module.forward.schema.arguments[1:] if not each.has_default_value()]
        if len(arguments) != 1:
            names = some_of([each.name for each in arguments])
            raise BadInput(f"{path}: takes {len(arguments)} inputs ({names}), not one")

    def __call__(self, pictures: Tensor) -> Any:
        # As it is written: what the optimizer makes of it changes with the calls before.
        with torch.jit.optimized_execution(False):
            return self._module(pictures)


def open_network(kind: str, path: Path, device: str) -> tuple[Network, bytes]:
    """The network in a file, and the file's bytes. kind: `onnx:` or `torch:`.

    Raises:
        MissingWeights: no such file, or ONNX Runtime is not installed.
        UsageError: ONNX Runtime cannot compute on the device.
        BadInput: as `read_model_file` and `torch_kind`; the network takes something else than one (n, 3, S, S) float32.
    """
    data = read_model_file(path)
    made: Callable[[Path, bytes, str], Network] = OnnxNetwork
    if kind == "torch:":
        made = {"exported": ExportedNetwork, "script": ScriptNetwork}[torch_kind(path, data)]
    return made(path, data, device), data


class _Enough(Exception):
    """All maps that were asked for are there."""


class _Keeping(fx.Interpreter):
    """Runs a graph and keeps what some of its nodes give."""

    def __init__(self, graph: fx.GraphModule, wanted: Sequence[fx.Node], stop: bool):
        super().__init__(graph)
        self._wanted, self._stop = set(wanted), stop
        self.kept: list[Tensor] = []

    def run_node(self, node: fx.Node) -> Any:
        if node.op == "call_module":  # PyTorch's own check of sizes: layers are asked for parts of pictures, too
            return None
        value = super().run_node(node)
        if node in self._wanted:
            self.kept.append(value.float().clone())  # the next operator may work in place
            if self._stop and len(self.kept) == len(self._wanted):
                raise _Enough
        return value


def _square(path: Path, shape: Sequence[int | None]) -> int | None:
    """The side of the pictures that a network takes, None for any."""
    if len(shape) != 4 or shape[1] not in (3, None) or (shape[2] or 0) != (shape[3] or 0):
        shown = ", ".join("n" if n is None else str(n) for n in shape)
        raise BadInput(f"{path}: takes pictures ({shown}), not (n, 3, S, S); export it for channels first, square")
    return shape[2]


def _range(program: torch.export.ExportedProgram, size: Any) -> tuple[int, int | None]:
    """The batches that a symbolic size allows."""
    allowed = program.range_constraints.get(getattr(getattr(size, "node", None), "expr", None))
    if allowed is None:
        return 1, None
    low, high = (int(bound) if bound.is_Integer else None for bound in (allowed.lower, allowed.upper))
    return max(1, low or 1), high


def _providers(onnxruntime: Any) -> str:
    return ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    """PyTorch logs a traceback of what is then raised anyway."""
    log, level = logging.getLogger(logger), logging.getLogger(logger).level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
