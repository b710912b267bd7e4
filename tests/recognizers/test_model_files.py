"""A model file of a stranger's: it computes, or is refused by one line; it never does anything else."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facedecode.errors import BadInput, FacedecodeError
from facedecode.memory import within_memory
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.archive import Damaged, read_archive, write_archive
from facedecode.recognizers.custom_runtime import load_program
from facedecode.recognizers.model_file import checked_torch_file
from facedecode.recognizers.onnx_file import check_onnx
from facedecode.recognizers.operators import is_script_operator
from facedecode.recognizers.weights_file import read_tensors
from facedecode.training.recognizer import Start

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PROGRAM, WEIGHTS, SAMPLES = "models/model.json", "data/weights/model_weights_config.json", "data/sample_inputs/model.pt"


class Net(nn.Module):
    """Pictures (n, 3, 16, 16) → (n, 8); its code has a loop, and its program sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.conv(x)))
        y = y.view(y.shape[0] * 2, 2, 4, 4).reshape(y.shape[0], -1)
        turns = 1
        for _ in range(y.dim()):
            turns = turns + 1
        return self.fc(y) * float(turns)


@pytest.fixture(scope="module")
def exported() -> bytes:
    torch.manual_seed(0)
    buffer, shapes = io.BytesIO(), ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


def saved(program: Any) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(program, buffer)
    return buffer.getvalue()


def scripted(net: nn.Module) -> bytes:
    return saved(torch.jit.script(net.eval()))


@pytest.fixture(scope="module")
def script() -> bytes:
    torch.manual_seed(0)
    return scripted(Net())


def parts(data: bytes) -> dict[str, bytes]:
    return {name: bytes(each) for name, each in read_archive(data, compressed="code/").items()}


def changed(data: bytes, **entries: Any) -> bytes:
    """An archive with entries replaced: by bytes, or by what a function makes of them or of their JSON."""
    held = parts(data)
    for name, new in entries.items():
        if isinstance(new, bytes):
            held[name] = new
        elif name.endswith(".json"):
            value = json.loads(held[name])
            held[name] = json.dumps(new(value) or value).encode()
        else:
            held[name] = new(held[name])
    return write_archive(held).getvalue()


def keep(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    contract = {"size": 16, "crop": "dlib", "channels": "RGB", "mean": 128, "scale": 128}
    path.with_name(f"{path.name}.json").write_text(json.dumps(contract))
    return f"torch:{path}"


def refused(path: Path, data: bytes, said: str = "") -> None:
    with pytest.raises(BadInput, match=f"{path.name}: .*{said}"):
        load_recognizer(keep(path, data))


def nodes(program: dict) -> list[dict]:
    return program["graph_module"]["graph"]["nodes"]


# Archives


def record(name: str, data: bytes, at: int) -> tuple[bytes, bytes]:
    """A stored entry, and what a directory says of it at a place."""
    spelled = name.encode()
    sizes = (zlib.crc32(data), len(data), len(data), len(spelled), 0)
    local = struct.pack("<4sHHHIIIIHH", b"PK\3\4", 20, 0, 0, 0x21, *sizes) + spelled + data
    listed = struct.pack("<4sHHHHIIIIHHHHHII", b"PK\1\2", 20, 20, 0, 0, 0x21, *sizes, 0, 0, 0, 0, at)
    return local, listed + spelled


def archived(entries: list[tuple[str, bytes]], before: bytes = b"", behind: bytes = b"") -> bytes:
    body, directory = before, b""
    for name, data in entries:
        local, listed = record(name, data, len(body))
        body, directory = body + local, directory + listed
    return body + directory + end_of(len(entries), directory, len(body)) + behind


def end_of(count: int, directory: bytes, at: int) -> bytes:
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), at, 0)


def test_an_archive_is_read_if_all_of_it_is_accounted_for(
    exported: bytes, script: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in (exported, script):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert parts(data) == {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert parts(archived([("a/x", b"1"), ("a/y/z", b"")])) == {"x": b"1", "y/z": b""}
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)  # as if they were 65,536: an end of 64 bits
    several = {f"data/{number}": b"" for number in range(5)}
    data = write_archive(several).getvalue()
    assert b"PK\6\6" in data and parts(data) == several


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (archived([("a/x", b"1"), ("a/x", b"2")]), "twice"),
        (archived([("a/x", b"1"), ("a/X", b"2")]), "twice"),
        (archived([("a/x", b"1"), ("b/y", b"2")]), "one model in one folder"),
        (archived([("a/../x", b"1")]), "is called"),
        (archived([("/x", b"1")]), "is called"),
        (archived([("a//x", b"1")]), "is called"),
        (archived([("a\\b/x\\y", b"1")]), "is called"),
        (archived([("a/x\0", b"1")]), "is called"),
        (archived([("a/x", b"1")], before=b"MZ"), "follow one another"),
        (archived([("a/x", b"1")], behind=b"more"), "its end is missing"),
        (archived([("a/x", b"1"), ("a/y", b"2")]).replace(b"\x21\0\0\0\xb7", b"\x21\0\0\0\xb8"), "."),
        (b"PK\5\6" + bytes(18), "not at its end"),
        (b"", "its end is missing"),
    ],
)
def test_an_archive_that_two_readers_could_read_otherwise_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(Damaged, match=said):
        read_archive(data)


def test_an_archive_with_two_directories_is_refused(exported: bytes, tmp_path: Path) -> None:
    """One is found from the end, the other at the place that the end names: two readers, two models."""
    good = [(f"archive/{name}", data) for name, data in parts(exported).items()]
    other = [(name, b"other") for name, _ in good]
    body, directories = b"", []
    for entries in (other, good):
        listed = b""
        for name, data in entries:
            local, line = record(name, data, len(body))
            body, listed = body + local, listed + line
        directories.append(listed)
    end = end_of(len(good), directories[1], len(body))
    refused(tmp_path / "two.pt2", body + b"".join(directories) + end, "truncated or damaged")


def test_entries_that_overlap_are_packed_or_encrypted_are_refused(exported: bytes, tmp_path: Path) -> None:
    local, listed = record("a/x", b"12345678", 0)
    both = listed + listed.replace(b"a/x", b"a/y")
    overlapping = local + both + end_of(2, both, len(local))
    with pytest.raises(Damaged, match="follow one another"):
        read_archive(overlapping)
    for how in ("deflated", "encrypted"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if how == "deflated" else zipfile.ZIP_STORED) as archive:
            for name, data in parts(exported).items():
                archive.writestr(f"archive/{name}", data)
        data = bytearray(buffer.getvalue())
        if how == "encrypted":
            for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
                at = -1
                while (at := data.find(mark, at + 1)) >= 0:
                    data[at + offset] |= 1
        refused(tmp_path / f"{how}.pt2", bytes(data), "compressed" if how == "deflated" else "encrypted")


def test_a_small_file_does_not_unpack_to_a_large_one(script: bytes, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in parts(script).items():
            archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/code/__torch__/large.py", bytes(1 << 27), zipfile.ZIP_DEFLATED)
    assert len(buffer.getvalue()) < 1 << 20
    refused(tmp_path / "large.pt", buffer.getvalue(), "unpacks to too much")


# Exported programs


@pytest.mark.filterwarnings("ignore")
def test_a_program_of_any_size_and_one_in_regions_are_taken(tmp_path: Path) -> None:
    class Regions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                y = nn.functional.interpolate(self.conv(x), scale_factor=2.0).mean((2, 3))
            with torch.autocast("cpu", torch.bfloat16):
                y = self.fc(y)
            return y.float()

    net, side = Regions().eval(), torch.export.Dim("side", min=8, max=40)
    sizes = {0: torch.export.Dim("n"), 2: 8 * side, 3: 8 * side}
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, 128, 128),), dynamic_shapes=(sizes,)), buffer)
    path, x = tmp_path / "net.pt2", torch.rand(3, 3, 96, 96)
    path.write_bytes(buffer.getvalue())
    program = load_program(path)
    assert program.shape == (3, None, None)
    torch.testing.assert_close(program(x), net(x))


def calling(target: str, *arguments: tuple[str, dict]) -> Callable[[dict], None]:
    """Puts another operator in the place of a program's ReLU."""

    def change(program: dict) -> None:
        node = next(each for each in nodes(program) if "relu" in each["target"])
        node["target"] = target
        if arguments:
            node["inputs"] = [{"name": name, "arg": value, "kind": 1} for name, value in arguments]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            calling(
                "torch.ops.aten.from_file.default",
                ("filename", {"as_string": "VICTIM"}),
                ("shared", {"as_bool": True}),
                ("size", {"as_int": 8}),
            ),
            "calls torch.ops.aten.from_file.default, which is not allowed: allowed are",
        ),
        (calling("torch.ops.aten.set_.source_Tensor"), "calls torch.ops.aten.set_"),
        (calling("torch.ops.aten._print.default"), "calls torch.ops.aten._print"),
        (calling("torch.ops.higher_order.while_loop"), "calls torch.ops.higher_order.while_loop"),
        (calling("torch.ops.aten.relu.__class__.mro"), "calls torch.ops.aten.relu.__class__"),
        (calling("torch.hub.load"), "calls torch.hub.load"),
        (calling("math.factorial"), "calls math.factorial"),
        (calling("_operator.pow", ("a", {"as_int": 10}), ("b", {"as_int": 10**15})), "calls _operator.pow"),
        (calling("os.system"), "calls os.system"),
        (calling("#extension:op"), "calls #extension"),
        (calling("torch.ops.aten.relu.default", ("self", {"as_operator": "math.factorial"})), "passes an operator on"),
        (lambda p: p["guards_code"].append("__import__('os').system('touch VICTIM')"), "a guard that is no condition"),
        (lambda p: p["range_constraints"].update(u999999999999={"min_val": 0, "max_val": 1}), "malformed"),
        (
            lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(
                in_spec='[1, {"type": "collections.defaultdict", "context": "null", "children_spec": []}]'
            ),
            "no tensors in tuples, lists or dicts",
        ),
        (lambda p: nodes(p)[0].update(name="x): import os #"), "a name that is none"),
        (lambda p: p["graph_module"]["graph"]["tensor_values"].update({"a b": {}}), "a name that is none"),
        (lambda p: p["graph_module"].update(graph=[1]), ""),
        (lambda p: [1], "malformed"),
    ],
)
def test_what_a_program_may_not_hold(exported: bytes, tmp_path: Path, change: Callable, said: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    value = json.loads(parts(exported)[PROGRAM])
    text = json.dumps(change(value) or value).replace("VICTIM", str(victim)).encode()
    refused(tmp_path / "bad.pt2", changed(exported, **{PROGRAM: text}), said)
    assert victim.read_bytes() == b"precious" and len([*tmp_path.iterdir()]) == 3


# Given tensors that are too short, these read or write other memory.
UNSAFE = """
    _reshape_alias _reshape_alias_copy native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    _batch_norm_no_update _native_batch_norm_legit_functional _weight_norm _weight_norm_interface _index_put_impl_
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention _fft_c2r lstm slow_conv3d
"""


@pytest.mark.parametrize("name", UNSAFE.split())
def test_operators_that_trust_their_arguments_are_refused(exported: bytes, name: str) -> None:
    assert not is_script_operator(name)
    data = changed(exported, **{PROGRAM: calling(f"torch.ops.aten.{name}.default")})
    with pytest.raises(BadInput, match=rf"^m\.pt2: its program calls torch\.ops\.aten\.{name}\.default, which is not"):
        checked_torch_file(Path("m.pt2"), data)  # which does not run it


@pytest.mark.filterwarnings("ignore")
def test_a_refusal_says_how_to_export_instead(tmp_path: Path) -> None:
    x = (torch.zeros(2, 3, 16, 16),)
    path, program = tmp_path / "net.pt2", torch.export.export(Net().eval(), x)
    torch.export.save(program.run_decompositions(), path)
    refused(path, path.read_bytes(), "which is not allowed: save the program .* without run_decompositions")
    net = Net().eval()
    torch.nn.utils.parametrizations.weight_norm(net.fc)
    refused(tmp_path / "net.pt", saved(torch.jit.trace(net, x)), "_weight_norm.*: before exporting call torch")
    torch.nn.utils.parametrize.remove_parametrizations(net.fc, "weight")
    load_recognizer(keep(tmp_path / "net.pt", saved(torch.jit.trace(net, x))))


def test_resampling_with_antialias_takes_a_size_or_a_scale(exported: bytes, tmp_path: Path) -> None:
    """With both, one that does not fit the other makes PyTorch read beside the picture."""

    class Resamples(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.interpolate(x, size=[4, 4], mode="bilinear", antialias=True)
            return nn.functional.interpolate(y, scale_factor=2.0, mode="bicubic", antialias=True).mean((2, 3))

    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten._upsample_bilinear2d_aa(x, [4, 4], False, 0.5, 0.5).mean((2, 3))

    class One(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten._upsample_bilinear2d_aa(x, [4, 4], False, 0.5).mean((2, 3))

    x, buffer, path = torch.rand(2, 3, 16, 16), io.BytesIO(), tmp_path / "net.pt"
    torch.export.save(torch.export.export(Resamples(), (x,)), buffer)
    for data in (scripted(Resamples()), saved(torch.jit.trace(Resamples(), x)), buffer.getvalue()):
        path.write_bytes(data)
        torch.testing.assert_close(load_program(path)(x), Resamples()(x))
    refused(
        path, scripted(Both()), "_upsample_bilinear2d_aa, which is not allowed: resample to a size, or by one scale"
    )
    refused(path, scripted(One()), "cannot load it")
    sizes = [("size", {"as_ints": [4, 4]}), ("align_corners", {"as_bool": False})]
    scales = [("scales_h", {"as_float": 0.001}), ("scales_w", {"as_float": 0.001})]
    change = calling("torch.ops.aten._upsample_bilinear2d_aa.default", ("self", {}), *sizes, *scales)
    with pytest.raises(BadInput, match="resample to a size, or by one scale"):
        checked_torch_file(path, changed(exported, **{PROGRAM: change}))


class Attends(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flatten(2)[:, None]  # (n, 1, 3, d)
        values = y[:, :, :1].expand(-1, -1, self.count, -1)
        return nn.functional.scaled_dot_product_attention(y, y, values).sum((1, 2))


LOAD_AND_RUN = """
import sys, torch
from pathlib import Path
from facedecode.errors import BadInput
from facedecode.recognizers.custom_runtime import load_program
try:
    print(load_program(Path(sys.argv[1]))(torch.zeros(2, 3, 2, 2)).shape)
except BadInput as error:
    sys.exit(str(error))
"""


def test_attention_to_more_values_than_keys_reads_no_other_memory(tmp_path: Path) -> None:
    """In another process: PyTorch's fused attention would read the keys that there are not."""
    path = tmp_path / "net.pt"
    for count in (3, 5_000_000):
        path.write_bytes(scripted(Attends(count)))
        run = subprocess.run([sys.executable, "-c", LOAD_AND_RUN, str(path)], capture_output=True, text=True)
        assert run.returncode == (count != 3), run
        assert "torch.Size([2, 4])" in run.stdout if count == 3 else f"{path}: fails on (2, 3, 2, 2)" in run.stderr


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"", b"null"])
def test_a_program_that_is_no_json_of_a_program_is_refused(exported: bytes, tmp_path: Path, text: bytes) -> None:
    refused(tmp_path / "bad.pt2", changed(exported, **{PROGRAM: text}), "malformed")


@pytest.mark.parametrize(
    "size",
    [
        "10**10**10",
        "Pow(Integer(10), Pow(Integer(10), Integer(4)))",
        "Mul(" + ", ".join(["Add(s1, s2, s3)"] * 9) + ")",
        "9" * 400,
        "(" * 90 + "1" + ")" * 90 + " + s.x",
        "1" + " + 1" * 100_000,
        "Add(Ge(Symbol('s1'), Integer(1)), Integer(1))",
        "Symbol('s1', positive=__import__)",
        "[].__class__",
        "S('1')",
        "1e999",
    ],
)
def test_a_size_that_takes_for_ever_is_refused(exported: bytes, tmp_path: Path, size: str) -> None:
    head, _, tail = parts(exported)[PROGRAM].rpartition(b'"expr_str": "')
    program = head + b'"expr_str": ' + json.dumps(size).encode() + tail[tail.index(b'"') + 1 :]
    refused(tmp_path / "bad.pt2", changed(exported, **{PROGRAM: program}), "a size that is no expression, or too long")


def test_sizes_that_are_multiplied_too_often_are_refused(exported: bytes, tmp_path: Path) -> None:
    """Numbers have no bound in Python: sixty products make one of 2^60 digits."""

    def change(program: dict) -> None:
        at = next(k for k, node in enumerate(nodes(program)) if node["target"] == "_operator.mul")
        first = nodes(program)[at]
        name = first["outputs"][0]["as_sym_int"]["as_name"]
        sizes = program["graph_module"]["graph"]["sym_int_values"]
        for number in range(60):
            again, following = {"as_sym_int": {"as_name": name}}, f"again_{number}"
            inputs = [{"name": "a", "arg": again, "kind": 1}, {"name": "b", "arg": again, "kind": 1}]
            outputs = [{"as_sym_int": {"as_name": following}}]
            nodes(program).insert(at + number + 1, {**first, "name": following, "inputs": inputs, "outputs": outputs})
            sizes[following] = sizes[name]
            name = following

    refused(tmp_path / "products.pt2", changed(exported, **{PROGRAM: change}), "multiplies sizes too often")


def entry_of(config: dict) -> dict:
    return config["config"]["fc.weight"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: entry_of(c).update(use_pickle=True), "is pickled"),
        (lambda c: entry_of(c).update(use_pickle=0), "is pickled"),
        (lambda c: entry_of(c).update(path_name="custom_obj_0"), "is pickled"),
        (lambda c: entry_of(c).update(path_name="weight_99"), "malformed"),
        (lambda c: entry_of(c)["tensor_meta"]["sizes"][0].update(as_int=10**12), "no view of its numbers"),
        (lambda c: entry_of(c)["tensor_meta"]["strides"][0].update(as_int=10**12), "no view of its numbers"),
        (lambda c: entry_of(c)["tensor_meta"]["storage_offset"].update(as_int=-1), "malformed"),
        (lambda c: entry_of(c)["tensor_meta"].update(dtype=99), "malformed"),
        (lambda c: entry_of(c)["tensor_meta"].update(device={"type": "hpu"}), "malformed"),
        (lambda c: c.update(config={"a": "b"}), "malformed"),
        (lambda c: [1], "malformed"),
    ],
)
def test_what_a_list_of_tensors_may_not_hold(exported: bytes, tmp_path: Path, change: Callable, said: str) -> None:
    refused(tmp_path / "bad.pt2", changed(exported, **{WEIGHTS: change}), said)


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_no_pickle_in_a_program_is_opened(exported: bytes, tmp_path: Path) -> None:
    mark, buffer = tmp_path / "mark", io.BytesIO()
    torch.save(Touch(mark), buffer)
    for name, data in {"torch": buffer.getvalue(), "bare": pickle.dumps(Touch(mark))}.items():
        refused(tmp_path / f"{name}.pt2", changed(exported, **{SAMPLES: data}), "sample inputs are no plain tensors")
    for name in ("data/constants/custom_obj_0", "data/weights/model.pt", "models/other.json", "data/aotinductor/a.so"):
        refused(tmp_path / "more.pt2", changed(exported, **{name: buffer.getvalue()}))
    assert not mark.exists()
    held = parts(exported)
    del held[SAMPLES]
    kept = load_program(Path(keep(tmp_path / "none.pt2", write_archive(held).getvalue())[6:]))
    assert kept(torch.zeros(3, 3, 16, 16)).shape == (3, 8)


WEIRD: list[Any] = [
    None,
    True,
    0,
    -1,
    10**18,
    1e308,
    "",
    "x",
    "a" * 5000,
    "\0",
    "../x",
    "torch.os.system",
    [],
    {},
    [[]],
]
WEIRD += ["torch.ops.aten.from_file.default", "Pow(9,Pow(9,99))", {"as_int": 5}, {"as_expr": {"expr_str": "1"}}]


def places(value: Any, place: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(each for key, child in inner for each in places(child, (*place, key)))]


def jumbled(data: bytes, chance: random.Random) -> bytes:
    """JSON with something else somewhere."""
    value = json.loads(data)
    for _ in range(chance.choice([1, 1, 3])):
        if not (inner := places(value)[1:]):
            break
        *outer, last = chance.choice(inner)
        holder = value
        for key in outer:
            holder = holder[key]
        if chance.random() < 0.3:
            del holder[last]
        else:
            holder[last] = chance.choice(WEIRD)
    return json.dumps(value).encode()


def scrambled(data: bytes, chance: random.Random) -> bytes:
    """Bytes that are changed, removed or doubled."""
    new = bytearray(data or b"\0")
    for _ in range(chance.choice([1, 2, 10])):
        at = chance.randrange(len(new))
        new[at : at + chance.choice([0, 1, 9])] = (
            bytes(new[at : at + 4]) if chance.random() < 0.3 else bytes([chance.randrange(256)])
        )
    return bytes(new)


def rewritten(data: bytes, chance: random.Random) -> bytes:
    """Code with a word or a line that is another."""
    lines = data.decode().split("\n")
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(len(lines))
        words = [word for word in lines[at].replace("(", " ").replace(",", " ").split() if word.isidentifier()]
        if words and chance.random() < 0.6:
            other = chance.choice(
                [*words, "Tensor", "str", "self", "torch.save", "ops.aten.from_file", "None", "0", "[]"]
            )
            lines[at] = lines[at].replace(chance.choice(words), other)
        else:
            lines[at] = chance.choice(["", chance.choice(lines)])
    return "\n".join(lines).encode()


@pytest.mark.parametrize("kind", ["pt2", "pt"])
def test_whatever_a_file_holds_it_computes_or_is_refused_by_its_name(
    exported: bytes, script: bytes, kind: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    chance, held = random.Random(0), parts(exported if kind == "pt2" else script)
    path, outcomes = tmp_path / f"net.{kind}", {"computes": 0, "refused": 0}
    names = [name for name in held if name.endswith(".py" if kind == "pt" else ".json")] * 6
    names += [*held, "data.pkl", "data.pkl", "data.pkl"][: None if kind == "pt" else -3]
    for _ in range(150):
        name = chance.choice(names)
        change = jumbled if name.endswith(".json") else rewritten if name.endswith(".py") else scrambled
        data = write_archive({**held, name: change(held[name], chance)}).getvalue()
        whole = keep(path, scrambled(data, chance) if chance.random() < 0.1 else data)
        try:
            load_recognizer(whole)
            outcomes["computes"] += 1
        except FacedecodeError as error:
            assert error.exit_code == 4 and path.name in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5, outcomes
    assert {each.name for each in tmp_path.iterdir()} == {path.name, f"{path.name}.json"}
    assert "Traceback" not in capfd.readouterr().err


# TorchScript


class Method(nn.Module):
    """Calls an operator that only TorchScript has, or one that reaches out of the model."""

    def __init__(self, victim: str) -> None:
        super().__init__()
        self.victim, self.fc = victim, nn.Linear(768, 8)


class Maps(Method):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mapped = torch.from_file(self.victim, True, 8, dtype=torch.uint8)
        mapped.add_(1)
        return self.fc(x.flatten(1)) + mapped.float()


class Saves(Method):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.victim)
        return self.fc(x.flatten(1))


class Restores(Method):
    def __init__(self, victim: str) -> None:
        super().__init__(victim)
        self.mapped = torch.zeros(8)

    @torch.jit.export
    def __getstate__(self) -> str:
        return self.victim

    @torch.jit.export
    def __setstate__(self, state: str) -> None:
        self.victim = state
        self.mapped = torch.from_file(state, True, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))


class Turns(Method):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool(x.isfinite().all()):
            x = x * 1
        return self.fc(x.flatten(1))


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Maps, "calls torch.from_file, which is not allowed: allowed are"),
        (Saves, "calls torch.save"),
        (Restores, "calls torch.from_file"),
        (Turns, "a loop of more than 256 turns"),
    ],
)
def test_torchscript_computes_and_does_nothing_else(net: type[Method], said: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    data = scripted(net(str(victim)))
    victim.write_bytes(b"precious")
    refused(tmp_path / "bad.pt", data, said)
    assert victim.read_bytes() == b"precious"


class Usual(nn.Module):
    """What recognizers do beside their layers: resize, loop over lists, check shapes, read settings."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([Net(), Net()])
        self.weights, self.settings, self.extra = [1, 2], {"scale": 0.5}, None
        self.register_buffer("mean", torch.zeros(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dim() == 4, f"not pictures: {x.shape}"
        x = nn.functional.interpolate(x - self.mean, size=(16, 16), mode="bilinear", align_corners=False)
        found = []
        for net in self.nets:
            for weight in self.weights:
                found.append(net(x) * weight * self.settings["scale"])
        if self.extra is not None:
            found = found[:1]
        return nn.functional.normalize(torch.stack(found).sum(0))


def test_usual_torchscript_gives_the_same_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Usual().eval(), torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        want = net(x)
        for data in (scripted(net), saved(torch.jit.trace(net, x)), saved(torch.jit.freeze(torch.jit.script(net)))):
            path = tmp_path / "net.pt"
            path.write_bytes(data)
            torch.testing.assert_close(load_program(path)(x), want)


def in_code(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(code: bytes) -> bytes:
        assert old.encode() in code
        return code.replace(old.encode(), new.encode())

    return change


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("torch.relu(", "ops.aten.from_file(", "calls ops.aten.from_file"),
        ("torch.relu(", "torch.aten.relu(", "calls torch.aten.relu"),
        ("torch.relu(", "ops.prim.PythonOp(", "calls ops.prim.PythonOp"),
        ("torch.relu(", "ops.image.read_file(", "calls ops.image.read_file"),
        ("torch.relu(", "open(", "calls open"),
        ("torch.relu(", "getattr(torch, 'save')(", "calls getattr"),
        ("torch.relu(", "('name').from_file(", "calls .from_file"),
        ("torch.relu(", "(x).from_file(", "calls .from_file"),
        ("torch.relu(", "self.conv.bias(", "calls .bias"),
        ("torch.relu(", "__torch__.torch.classes.a.b(", "calls __torch__.torch.classes.a.b"),
        ("    norm = self.norm\n", "    norm = self.norm\n    torch = norm\n", "a variable called torch"),
        ("    norm = self.norm\n", "    norm = self.norm\n    f = torch.save\n", "calls torch.save"),
        ("    norm = self.norm\n", "    norm = self.norm\n    import os\n", "not as torch.jit.save writes it"),
        (
            "    norm = self.norm\n",
            "    norm = self.norm\n    y = [z for z in x]\n",
            "not as torch.jit.save writes it",
        ),
        ("    norm = self.norm\n", "    norm = self.norm\n    norm = 'text'\n", "a name for two things"),
        ("    norm = self.norm\n", "    norm = self.norm\n    y = (self).forward(x)\n", "a function that calls itself"),
        ("  norm : ", "  norm : __torch__.torch.classes.quantized.X\n  norm : ", "of the type __torch__.torch.classes"),
        ("  norm : ", "  norm : Tensor\n  norm : ", "an attribute of two types"),
        ("class Net(Module):", "class Net(Interface):", "not as torch.jit.save writes it"),
        ("class Net(Module):", "class Net(Module):\n  __forward_hooks__ = ['a', ]", "not as torch.jit.save writes it"),
    ],
)
def test_what_code_may_not_hold(script: bytes, tmp_path: Path, old: str, new: str, said: str) -> None:
    name = next(each for each in parts(script) if each.endswith(".py") and "class Net(" in parts(script)[each].decode())
    refused(tmp_path / "bad.pt", changed(script, **{name: in_code(old, new)}), said)


def test_functions_that_call_each_other_without_end_are_refused(script: bytes, tmp_path: Path) -> None:
    """Twice each, forty deep: PyTorch would copy them into one another 2^40 times."""
    name = next(each for each in parts(script) if each.endswith(".py") and "class Net(" in parts(script)[each].decode())
    module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
    functions = "def f0(x: Tensor) -> Tensor:\n  return torch.relu(x)\n"
    for number in range(1, 41):
        inner = f"{module}.f{number - 1}"
        functions += f"def f{number}(x: Tensor) -> Tensor:\n  return {inner}({inner}(x))\n"
    refused(tmp_path / "deep.pt", changed(script, **{name: lambda code: code + functions.encode()}), "too often")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"ctorch\nFloatStorage\n", b"cos\nsystem\n", "a value of 'os.system'"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nload\n", "a value of 'torch.load'"),
        (b"BatchNorm2d\n", b"Conv2d\n", "a value of"),
        (b"\x88X", b"K\x01X", "of another type than its code says"),  # whether it is in training: a number
        (b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00hpu", "a storage of no tensor"),
        (b"K\x00(K\x08K@t", b"K\x01(K\x08K@t", "of more numbers than the file has"),
        (b"K\x00(K\x08K@t", b"K\x00(J\xff\xff\xff\x7fK@t", "of more numbers than the file has"),
        (b"\x80\x02", b"\x80\x02Nr\xff\xff\xff\x7f0", "that torch.jit.save does not write"),
    ],
)
def test_what_values_may_not_hold(script: bytes, tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    def change(data: bytes) -> bytes:
        if old not in data:
            assert old == b"\x88X"
            return data.replace(b"\x89X", new, 1)
        return data.replace(old, new, 1)

    refused(tmp_path / "bad.pt", changed(script, **{"data.pkl": change}), said)


def test_a_storage_holds_as_many_numbers_as_it_says(script: bytes, tmp_path: Path) -> None:
    """PyTorch's reader of these archives trusts the number, and would read the memory behind."""
    name = max((each for each in parts(script) if each.startswith("data/")), key=lambda each: len(parts(script)[each]))
    refused(tmp_path / "short.pt", changed(script, **{name: lambda data: data[:-4]}), "more numbers than the file has")


BUILT_TWICE = {
    "lists": b"]q\0" + b"".join(b"]q%c(h%ch%ce" % (k + 1, k, k) for k in range(45)),
    "dictionaries": b"}q\0" + b"".join(b"}q%c(K\1h%cK\2h%cu" % (k + 1, k, k) for k in range(45)),
    "tuples": b")q\0" + b"".join(b"h%ch%c\x86q%c" % (k, k, k + 1) for k in range(45)),
}


@pytest.mark.parametrize("kind", BUILT_TWICE)
@pytest.mark.parametrize("as_key", [False, True])
def test_values_that_hold_each_other_twice_are_refused(kind: str, as_key: bool, script: bytes) -> None:
    """Forty-five deep, they would be 2^45 values. A tuple's hash, and a text of them, would have no end either."""
    last = b"}h\x2dN\x73" if as_key else b""
    pickled = b"\x80\2" + BUILT_TWICE[kind] + last + b"."
    data = changed(script, **{"constants.pkl": pickled})
    with pytest.raises(BadInput, match=r"m\.pt: (its values hold each other too often|.*nested|.*damaged)"):
        checked_torch_file(Path("m.pt"), data)


def test_a_list_that_is_in_two_places_is_taken(script: bytes) -> None:
    pickled = b"\x80\2(]q\0(K\1eh\0h\0)h\0t."
    assert checked_torch_file(Path("m.pt"), changed(script, **{"constants.pkl": pickled}))[0] == "script"


# Memory, weights and ONNX


class Fills(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :8] + torch.full([1 << 38], 1.0).sum()


def test_a_program_that_asks_for_absurd_memory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "fills.pt", scripted(Fills()), "cannot take")
    with within_memory(), pytest.raises(MemoryError):
        np.empty(2**50, np.uint8)
    np.empty(2**20, np.uint8)


def test_weights_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pth"
    net = nn.Linear(2, 2)
    torch.save(net.state_dict(), path)
    start = Start(path)
    assert start.sha256 and torch.equal(start.load(nn.Linear(2, 2)).weight, net.weight)
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(BadInput, match=r"w\.pth: changed while it was used"):
        start.load(nn.Linear(2, 2))
    content = path.read_bytes()
    path.unlink()
    assert read_tensors(path, content)["weight"].shape == (2, 2), "what was read is what is used"


def test_packed_weights_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(1 << 20)}, buffer)
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts(buffer.getvalue()).items():
            archive.writestr(f"archive/{name}", data)
    with pytest.raises(BadInput, match=r"w\.pth: truncated or damaged \(.* is compressed"):
        read_tensors(path)


def onnx_model(change: Callable[[Any, Any], None]) -> bytes:
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    graph = h.make_graph(
        [h.make_node("Flatten", ["x"], ["y"])],
        "g",
        [h.make_tensor_value_info("x", 1, ("n", 3, 2, 2))],
        [h.make_tensor_value_info("y", 1, None)],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    change(model, onnx)
    return model.SerializeToString()


def elsewhere(onnx: Any, location: str = "../w.bin") -> Any:
    tensor = onnx.helper.make_tensor("w", 1, [1], bytes(4), raw=True)
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return tensor


def in_attribute(model: Any, onnx: Any) -> None:
    constant = onnx.helper.make_node("Constant", [], ["c"], value=elsewhere(onnx, "/etc/passwd"))
    branch = onnx.helper.make_graph([constant], "b", [], [onnx.helper.make_tensor_value_info("c", 1, None)])
    model.graph.node.append(onnx.helper.make_node("If", ["q"], ["z"], then_branch=branch, else_branch=branch))


def own_functions(calls: Callable[[int], list[int]], count: int) -> Callable[[Any, Any], None]:
    def change(model: Any, onnx: Any) -> None:
        h = onnx.helper
        for number in range(count):
            inner = [h.make_node(f"F{each}", ["a"], ["b"], domain="my") for each in calls(number)]
            inner = inner or [h.make_node("Relu", ["a"], ["b"])]
            model.functions.append(h.make_function("my", f"F{number}", ["a"], ["b"], inner, [h.make_opsetid("", 17)]))
        model.graph.node.append(h.make_node(f"F{count - 1}", ["y"], ["z"], domain="my"))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model, onnx: model.graph.initializer.append(elsewhere(onnx)), "in another file"),
        (lambda model, onnx: model.graph.initializer.add().__setattr__("data_location", 1), "in another file"),
        (in_attribute, "in another file"),
        (lambda model, onnx: model.graph.node[0].__setattr__("domain", "own"), "needs the operator own:Flatten"),
        (lambda model, onnx: model.graph.node[0].__setattr__("op_type", "EPContext"), "compiled code"),
        (lambda model, onnx: model.graph.node[0].__setattr__("op_type", "Loop"), "a loop, which may have no end"),
        (own_functions(lambda n: [n - 1] * 2 if n else [], 40), "too often"),
        (own_functions(lambda n: [n], 1), "calls itself"),
    ],
)
def test_an_onnx_model_is_one_file_of_known_operators(change: Callable, said: str) -> None:
    with pytest.raises(BadInput, match=rf"^m\.onnx: .*{said}"):
        check_onnx(Path("m.onnx"), onnx_model(change))


def test_onnx_models_that_are_none() -> None:
    check_onnx(Path("m.onnx"), onnx_model(lambda model, onnx: None))
    check_onnx(Path("m.onnx"), onnx_model(own_functions(lambda n: [n - 1] if n else [], 5)))
    good = onnx_model(lambda model, onnx: None)
    chance = random.Random(0)
    for data in (b"", b"\x0b" * 99, b"\xff" * 99, good[:-1], *(scrambled(good, chance) for _ in range(200))):
        try:
            check_onnx(Path("m.onnx"), data)
        except BadInput as error:
            assert str(error).startswith("m.onnx: ")


@pytest.mark.parametrize(
    "key",
    [
        b"\xba\x80\x80\x80\x10",  # the graph's, and 2^32
        b"\xba\x00",  # in more bytes than it needs
        b"\xba\x80\x80\x80\x80\x80\x80\x80\x80\x04",  # and 2^65
        b"\x02",  # of no field
    ],
)
def test_fields_that_onnx_runtime_would_read_as_others_are_refused(key: bytes) -> None:
    """Protocol Buffers keep 32 bits of a number, so one that is unknown here could be the graph there."""
    data = onnx_model(lambda model, onnx: None)
    graph = onnx_model(lambda model, onnx: model.graph.initializer.append(elsewhere(onnx)))
    at = graph.index(b"\x3a")
    hidden = key + graph[at + 1 :]
    with pytest.raises(BadInput, match=r"^m\.onnx: ONNX Runtime cannot read it"):
        check_onnx(Path("m.onnx"), data + hidden)
