"""A registered recognizer as a file that `--model torch:FILE` and `--model onnx:FILE` take.

    python examples/export_recognizer.py dlib-resnet -o dlib.pt2     # torch.export
    python examples/export_recognizer.py dlib-resnet -o dlib.pt      # TorchScript
    python examples/export_recognizer.py dlib-resnet -o dlib.onnx    # needs onnx and onnxscript

Beside it lies FILE.json, which says what the file expects of pictures: a pattern for models of your own
(docs/own-models.md).
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from arguments import Parser, refuse_existing, run
from torch import nn

from facedecode.errors import UsageError
from facedecode.files import json_text, write_bytes, write_text
from facedecode.pictures import align
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__, output="a .pt2, .pt or .onnx")
    parser.add_argument("model", help="a registered recognizer")
    parser.add_argument("--weights", type=Path, help="its file, where no package has it")
    parser.add_argument("--fixed-batch", type=int, help="a file that takes just so many pictures at once")
    arguments = parser.parse_args(argv)
    form = FORMS.get(arguments.output.suffix)
    if form is None:
        raise UsageError(f"-o {arguments.output}: give a name that ends in {', '.join(FORMS)}")
    beside = arguments.output.with_name(f"{arguments.output.name}.json")
    for path in (arguments.output, beside):
        refuse_existing(path, arguments.overwrite)
    recognizer = load_recognizer(arguments.model, arguments.weights)
    write_bytes(arguments.output, export(recognizer, form, arguments.fixed_batch))
    write_text(beside, json_text(contract(recognizer, arguments.model)))
    print(f"{arguments.output}: use it by --model {form.partition('-')[0]}:{arguments.output}", file=sys.stderr)


FORMS = {".pt2": "torch", ".pt": "torch-script", ".onnx": "onnx"}


def export(recognizer: Recognizer, form: str, fixed_batch: int | None = None) -> bytes:
    """The network of a recognizer in one of `FORMS`. It takes normalized pictures, (n, 3, S, S) float32."""
    net: nn.Module = recognizer.net.to(memory_format=torch.contiguous_format).eval()
    size = recognizer.spec.crop.size
    example = (torch.zeros(fixed_batch or 2, 3, size, size),)
    any_batch = None if fixed_batch else ({0: torch.export.Dim("n")},)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trace's branches depend on the fixed size alone
        if form == "torch":
            torch.export.save(torch.export.export(net, example, dynamic_shapes=any_batch), buffer)
        elif form == "torch-script":
            torch.jit.save(torch.jit.trace(net, example), buffer)
        else:
            program = torch.onnx.export(net, example, dynamic_shapes=any_batch, dynamo=True, verbose=False)
            return program.model_proto.SerializeToString()
    return buffer.getvalue()


def contract(recognizer: Recognizer, name: str) -> dict:
    """What the network expects, as FILE.json says it."""
    spec = recognizer.spec
    crops = {crop: align.named_crop(crop, spec.crop.size).describe() for crop in ("arcface", "dlib")}
    crop = next((crop for crop, described in crops.items() if described == spec.crop.describe()), None)
    if crop is None:
        raise UsageError(f"{name}: its crop has no name that a contract could say")
    return {
        "name": name,
        "size": spec.crop.size,
        "crop": crop,
        "channels": "RGB",
        "mean": list(spec.mean),
        "scale": spec.scale,
        "score": spec.score,
        "license": spec.license,
        **({} if spec.recommended_threshold is None else {"threshold": spec.recommended_threshold}),
    }


if __name__ == "__main__":
    run(main)
