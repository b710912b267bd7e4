"""A model file of the user's, opened: an exported program or TorchScript in PyTorch, an ONNX model in ONNX Runtime."""

from __future__ import annotations

import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from facedecode.errors import BadInput, MissingWeights, UsageError, some_of
from facedecode.files import sha256_of
from facedecode.memory import within_memory
from facedecode.recognizers.model_file import checked_torch_file, read_model_file
from facedecode.recognizers.networks import MapsComplete
from facedecode.recognizers.onnx_file import check_onnx


class Program:
    """A PyTorch file of one input, an exported program or TorchScript, without gradients to its weights.

    module: what computes; of an exported program an `fx.GraphModule`.
    sha256: of the file.
    suffix: .pt2, or .pt for TorchScript.
    shape: of one input, without the batch, None for a size that is free. batches: the fewest and the most inputs at
        once, None for no upper bound. outputs: how many. Shape and outputs are None for TorchScript.
    dtype: of its input; of TorchScript, float32.
    """

    def __init__(self, path: Path, data: bytes, device: str):
        """data: the content of the file.

        Raises BadInput: neither format, damaged, calling what is no arithmetic, or of several inputs.
        """
        self.path, self.sha256, self.device = path, sha256_of(data), torch.device(device)
        self.shape: tuple[int | None, ...] | None = None
        self.batches: tuple[int, int | None] = (1, None)
        self.outputs: int | None = None
        self.dtype = torch.float32
        kind, checked = checked_torch_file(path, data)
        self.suffix = ".pt2" if kind == "exported" else ".pt"
        try:
            with warnings.catch_warnings(), _silent(), _bounded(self.device):
                warnings.simplefilter("ignore")  # TorchScript is deprecated
                names = self._load_exported(checked) if kind == "exported" else self._load_script(checked)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None
        except Exception as error:  # whatever a damaged or foreign file makes PyTorch raise
            reason = " ".join(str(error).split())[:160]
            raise BadInput(f"{path}: PyTorch {torch.__version__} cannot load it ({reason}); export it again") from None
        if len(names) != 1:
            raise BadInput(f"{path}: takes {len(names)} inputs ({some_of(names)}), not one")
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    def _load_exported(self, file: io.BytesIO) -> list[str]:
        program = torch.export.load(file)
        if self.device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, self.device)
        self.module: Any = program.module(check_guards=False)
        self.outputs = len(program.graph_signature.user_outputs)
        inputs = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        value = inputs[0].meta.get("val") if inputs else None
        if not isinstance(value, Tensor) or not value.is_floating_point():
            dtype = value.dtype if isinstance(value, Tensor) else "no tensor"
            raise BadInput(f"takes {dtype}, not float32 numbers; export it for these")
        self.dtype = value.dtype
        batch, *sizes = value.shape
        self.shape = tuple(size if isinstance(size, int) else None for size in sizes)
        self.batches = (batch, batch) if isinstance(batch, int) else _range(program, batch)
        return [node.name for node in inputs]

    def _load_script(self, file: io.BytesIO) -> list[str]:
        self.module = torch.jit.load(file, map_location=self.device).eval()
        return [each.name for each in self.module.forward.schema.arguments[1:] if not each.has_default_value()]

    def __call__(self, inputs: Tensor) -> Tensor:
        """(n, …) → (n, …), float32. For a program of a fixed batch, the last batch is filled up with zeros.

        Raises BadInput: the program fails, or gives something else than one tensor of n.
        """
        inputs = inputs.to(self.device, torch.float32)
        most = self.batches[1]
        fixed = self.batches == (most, most)
        outputs = []
        for part in inputs.split(most) if fixed else (inputs,):
            padded = F.pad(part, [0, 0] * (part.ndim - 1) + [0, most - len(part)]) if fixed else part
            try:
                output = run_program(partial(nn.Module.__call__, self.module), padded)
            except RuntimeError as error:
                raise BadInput(f"{self.path}: fails on {tuple(padded.shape)} ({_last_line(error)})") from None
            if not isinstance(output, Tensor) or not output.ndim or len(output) != len(padded):
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise BadInput(f"{self.path}: gives {shape} for {tuple(padded.shape)}, not one tensor of as many rows")
            outputs.append(output[: len(part)])
        return torch.cat(outputs) if fixed else outputs[0]


def run_program(program: Callable[[Tensor], Any], inputs: Tensor) -> Any:
    """What a program gives for `inputs`; of an `fx.GraphModule`, its own call would print an error that is raised, too.

    Raises RuntimeError, whatever it is that the program fails by.
    """
    try:
        with _silent(), _bounded(inputs.device), _checked_attention(inputs.device):
            return program(inputs)
    except (RuntimeError, MapsComplete):
        raise
    except Exception as error:  # a program can be wrong in any way
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


def load_program(path: Path, device: str = "cpu", data: bytes | None = None) -> Program:
    """Load a program of one input and one output. data: the file's content, where it was read already.

    Raises MissingWeights: no such file. BadInput: as `Program`, or several outputs.
    """
    program = Program(path, read_model_file(path) if data is None else data, device)
    if program.dtype != torch.float32:
        raise BadInput(f"{path}: takes {program.dtype}, not float32 numbers; export it for these")
    if program.outputs not in (1, None):
        raise BadInput(f"{path}: gives {program.outputs} tensors; export a module of one output")
    return program


class Network(ABC):
    """What is known of a model that takes pictures, before it is tried.

    shape: of its input, the batch first, None for a size that is free; None where the file does not tell.
    dtype: of its input.
    batches: the fewest and the most pictures that it takes at once; None for no upper bound.
    outputs: names of its outputs, where the file has any.
    layers: modules with outputs that can be kept. no_layers: why there are none.
    gradients: they may flow; trying it tells.
    """

    shape: tuple[int | None, ...] | None = None
    dtype = torch.float32
    batches: tuple[int, int | None] = (1, None)
    outputs: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    no_layers = ""
    gradients = True

    @abstractmethod
    def __call__(self, pictures: Tensor) -> Any:
        """Outputs for normalized pictures, in the shape and the type that it takes."""

    def maps(self, pictures: Tensor, layers: Sequence[str], with_output: bool) -> tuple[list[Tensor], Any]:
        """Outputs of `layers` in the order in which they are computed, and the network's own (else None)."""
        raise UsageError(self.no_layers)


_ONNX_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}


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
        options.log_severity_level = 4  # failures come as exceptions, too
        # Threads that wait for work by spinning would slow down those of PyTorch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Tensors in other files would not be in the hash of this one.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/nonexistent")
        settings = {"device_id": torch.device(device).index or 0, "use_tf32": 0} if kind == "cuda" else {}
        try:
            with _bounded(torch.device(device)):
                self._session = onnxruntime.InferenceSession(data, options, providers=[(provider, settings)])
        except Exception as error:  # ONNX Runtime's own classes share no base
            reason = " ".join(str(error).split())
            if "xternal data" in reason:
                raise BadInput(f"{path}: its tensors lie in another file; export it with external_data=False") from None
            raise BadInput(f"{path}: ONNX Runtime cannot read it ({reason[:160]}); export it again") from None
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise BadInput(f"{path}: takes {len(inputs)} inputs ({some_of([each.name for each in inputs])}), not one")
        if inputs[0].type not in _ONNX_TYPES:
            raise BadInput(f"{path}: takes {inputs[0].type}, not float32; export it for float32 pictures")
        self._input, self.dtype = inputs[0].name, _ONNX_TYPES[inputs[0].type]
        # A model without any shape takes any.
        self.shape = tuple(n if isinstance(n, int) and n > 0 else None for n in inputs[0].shape or [None] * 4)
        self.batches = (self.shape[0] or 1, self.shape[0])
        self.outputs = tuple(each.name for each in self._session.get_outputs())

    def __call__(self, pictures: Tensor) -> Any:
        if torch.is_grad_enabled() and pictures.requires_grad:
            raise UsageError("an ONNX model is black-box: no gradients flow through it")
        inputs = {self._input: pictures.detach().to(self.dtype).cpu().numpy()}
        try:
            with _bounded(pictures.device):
                outputs = self._session.run(None, inputs)
        except Exception as error:  # ONNX Runtime's own classes share no base
            raise RuntimeError(" ".join(str(error).split())) from None
        numbers = [isinstance(each, np.ndarray) and each.dtype.kind in "fiub" for each in outputs]
        return tuple(
            torch.from_numpy(each).to(pictures.device) if is_numbers else each
            for each, is_numbers in zip(outputs, numbers, strict=True)
        )


class ExportedNetwork(Network):
    """A program of torch.export: a graph of operators, which remembers the modules that they came from."""

    no_layers = "its program does not remember the modules that it came from"

    def __init__(self, path: Path, program: Program):
        self._graph: Any = program.module
        self.shape, self.batches, self.dtype = (None, *program.shape), program.batches, program.dtype
        self._last: dict[str, fx.Node] = {}  # of each module
        for node in self._graph.graph.nodes:
            if isinstance(node.meta.get("val"), Tensor):
                for name, _ in (node.meta.get("nn_module_stack") or {}).values():
                    if name:
                        self._last[name] = node
        self.layers = tuple(self._last)

    def __call__(self, pictures: Tensor) -> Any:
        return run_program(partial(nn.Module.__call__, self._graph), pictures)

    def maps(self, pictures: Tensor, layers: Sequence[str], with_output: bool) -> tuple[list[Tensor], Any]:
        run = _MapKeeper(self._graph, [self._last[layer] for layer in layers], stop=not with_output)
        try:
            output = run_program(run.run, pictures)
        except MapsComplete:
            output = None
        return run.maps, output


class ScriptNetwork(Network):
    """TorchScript."""

    no_layers = "TorchScript shows no layers inside a model; save it by torch.export.save"

    def __init__(self, program: Program):
        self._module = program.module
        numbers = [each.dtype for each in self._module.parameters() if each.is_floating_point()]
        self.dtype = numbers[0] if numbers else torch.float32

    def __call__(self, pictures: Tensor) -> Any:
        # As it is written: what the optimizer makes of it changes with the calls before.
        with torch.jit.optimized_execution(False):
            return run_program(self._module, pictures)


def open_network(kind: str, path: Path, data: bytes, device: str) -> Network:
    """The network in a file. kind: `onnx:` or `torch:`. data: the file's content; path: for messages.

    Raises:
        MissingWeights: ONNX Runtime is not installed.
        UsageError: ONNX Runtime cannot compute on the device.
        BadInput: as `check_onnx` and `Program`; the network takes several inputs, or none that are numbers.
    """
    if kind == "onnx:":
        check_onnx(path, data)
        return OnnxNetwork(path, data, device)
    program = Program(path, data, device)
    return ScriptNetwork(program) if program.shape is None else ExportedNetwork(path, program)


class _MapKeeper(fx.Interpreter):
    """Runs a graph and keeps the outputs of some of its nodes; with `stop`, ends by MapsComplete at the last."""

    def __init__(self, graph: fx.GraphModule, nodes: Sequence[fx.Node], stop: bool):
        super().__init__(graph)
        self._nodes, self._stop = set(nodes), stop
        self.maps: list[Tensor] = []

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        if node in self._nodes:
            self.maps.append(value.float().clone())  # the next operator may work in place
            if self._stop and len(self.maps) == len(self._nodes):
                raise MapsComplete
        return value


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__


def _range(program: torch.export.ExportedProgram, size: Any) -> tuple[int, int | None]:
    """The batches that a symbolic size allows."""
    allowed = program.range_constraints.get(getattr(getattr(size, "node", None), "expr", None))
    if allowed is None:
        return 1, None
    low, high = (int(bound) if bound.is_Integer else None for bound in (allowed.lower, allowed.upper))
    return max(1, low or 1), high


def _providers(onnxruntime: Any) -> str:
    return ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())


def _bounded(device: torch.device) -> AbstractContextManager[None]:
    """`within_memory` on the CPU. CUDA reserves more addresses than there is memory, and refuses by itself."""
    return within_memory() if device.type == "cpu" else nullcontext()


def _checked_attention(device: torch.device) -> AbstractContextManager[None]:
    """Attention made of matrix products, which check shapes; on the CPU, the fused one reads past short keys."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


@contextmanager
def _silent() -> Iterator[None]:
    """PyTorch logs tracebacks of what is then raised anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
