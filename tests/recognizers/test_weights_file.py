"""Weights of others: what is read, under whatever names, and what is refused without being run."""

from __future__ import annotations

import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.recognizers.weights_file import Layout, kind_of_weights, load_into, read_tensors


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)


def build() -> Net:
    return Net()


def build_on_meta() -> Net:
    with torch.device("meta"):
        return Net()


@pytest.fixture
def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(t.shape, generator=generator) if t.is_floating_point() else torch.tensor(7)
        for name, t in Net().state_dict().items()
    }


def is_loaded(net: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(t, state[name].to(t.dtype)) for name, t in net.state_dict().items())


@pytest.mark.parametrize("make", [build, build_on_meta])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "pickle"])
def test_every_format_gives_the_same_network(make: Callable, kind: str, state: dict, tmp_path: Path) -> None:
    path = tmp_path / "w"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    assert kind_of_weights(path) == kind
    assert is_loaded(load_into(make(), path), state)


WRAPPERS = ("state_dict", "model", "backbone_state_dict", "net_state_dict", "embedder", "params")
PREFIXES = ("module.", "_orig_mod.", "backbone.", "net.", "model.encoder.", "module.backbone.module.", "recognizer.0.")


@pytest.mark.parametrize("wrapper", ["", *WRAPPERS])
@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_a_network_is_found_wherever_a_checkpoint_has_it(
    wrapper: str, prefix: str, state: dict, tmp_path: Path
) -> None:
    named = {prefix + name: tensor for name, tensor in state.items()}
    momentum = {"state": {0: {"exp_avg": torch.ones(4, 3, 3, 3)}, 1: {"exp_avg": torch.ones(4)}}, "param_groups": [{}]}
    beside = {"epoch": 3, "optimizer": momentum, "best": torch.tensor(0.9), "args": Namespace(lr=0.1), "ema": None}
    torch.save({wrapper: named, **beside} if wrapper else named, tmp_path / "w.pt")
    assert is_loaded(load_into(build(), tmp_path / "w.pt"), state)
    torch.save({"checkpoint": {wrapper or "weights": named}, **beside}, tmp_path / "v.pt")
    assert is_loaded(load_into(build(), tmp_path / "v.pt"), state)


def test_parts_of_a_network_may_be_wrapped_and_numbers_stand_beside_its_tensors(state: dict, tmp_path: Path) -> None:
    named = {name.replace("conv.", "conv.module.").replace("norm.", "_orig_mod.norm."): t for name, t in state.items()}
    torch.save({**named, "epoch": 3, "arch": "net"}, tmp_path / "w.pt")
    assert is_loaded(load_into(build(), tmp_path / "w.pt"), state)


def test_a_checkpoint_of_several_networks_is_refused(state: dict, tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in state.items()}
    flat = {f"{net}.{name}": t for net, s in (("student", state), ("teacher", other)) for name, t in s.items()}
    for content in ({"net": state, "model": other}, {"state_dict": {"backbone": other, "network": state}}, flat):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(BadInput, match=r"w\.pt: holds several networks, as [a-z_.]+ and as [a-z_.]+; save"):
            load_into(build(), tmp_path / "w.pt")
    torch.save({"net": state, "model": dict(state)}, tmp_path / "twice.pt")
    assert is_loaded(load_into(build(), tmp_path / "twice.pt"), state)


def test_a_checkpoint_that_holds_itself_ends(state: dict, tmp_path: Path) -> None:
    content: dict = {"model": state}
    content["last"] = content
    torch.save(content, tmp_path / "w.pt")
    assert is_loaded(load_into(build(), tmp_path / "w.pt"), state)


HEADS = (
    "arcface",
    "arcface_head",
    "classifier",
    "criterion",
    "fc",
    "fc8",
    "head",
    "logits",
    "margin_loss",
    "metric_fc",
)


@pytest.mark.parametrize("head", [*HEADS, "AdaFace", "softmax", "last_linear", "proxies"])
def test_a_head_beside_the_network_is_left_out_and_told(head: str, state: dict, tmp_path: Path) -> None:
    told = pytest.warns(FacedecodeWarning, match=rf"left out {head}: no template")
    save_file(state | {f"{head}.classes": torch.zeros(8631, 2)}, tmp_path / "w")
    with told:
        assert is_loaded(load_into(build(), tmp_path / "w"), state)
    # Their `fc` is a head here, as the network has one of its own.
    with_prefix = {f"module.model.backbone.{name}": t for name, t in state.items()}
    save_file(with_prefix | {f"module.model.{head}.weight": torch.zeros(3, 2)}, tmp_path / "v")
    with told:
        assert is_loaded(load_into(build(), tmp_path / "v"), state)
    torch.save({"backbone": state, head: {"weight": torch.zeros(8631, 2)}}, tmp_path / "apart.pt")
    assert is_loaded(load_into(build(), tmp_path / "apart.pt"), state)  # another dictionary: nothing to tell


def test_the_classifier_of_an_architectures_own_files_is_left_out_without_a_word(state: dict, tmp_path: Path) -> None:
    save_file({f"net.{k}": t for k, t in state.items()} | {"net.logits.weight": torch.zeros(9, 2)}, tmp_path / "w")
    assert is_loaded(load_into(build(), tmp_path / "w", [Layout("theirs", classifier=("logits",))]), state)


def test_layers_that_no_head_has_are_refused_beside_the_network_too(state: dict, tmp_path: Path) -> None:
    save_file({f"backbone.{k}": t for k, t in state.items()} | {"neck.weight": torch.zeros(2)}, tmp_path / "w")
    with pytest.raises(BadInput, match=r"w: not these weights: tensors 1 unexpected \(neck.weight\)"):
        load_into(build(), tmp_path / "w")


def test_the_layout_that_fits_best_is_taken(state: dict, tmp_path: Path) -> None:
    theirs = {"fc": "conv", "bn": "norm", "out": "fc"}  # their `fc` is another layer than ours
    layouts = [Layout("ours"), Layout("theirs", theirs, turned_first="conv.weight")]
    names = {ours: name for name, ours in theirs.items()}
    renamed = {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": tensor for k, tensor in state.items()}
    save_file(renamed, tmp_path / "theirs")
    save_file(state, tmp_path / "ours")
    assert is_loaded(load_into(build(), tmp_path / "ours", layouts), state)
    turned = state | {"conv.weight": state["conv.weight"].flip(1)}
    assert is_loaded(load_into(build(), tmp_path / "theirs", layouts), turned)
    refusing = [layouts[0], Layout("theirs", theirs, refused="take the other model")]
    with pytest.raises(BadInput, match=r"theirs: take the other model"):
        load_into(build(), tmp_path / "theirs", refusing)


def test_counters_may_be_absent_and_other_precisions_become_float32(state: dict, tmp_path: Path) -> None:
    half = {name: t.half() for name, t in state.items() if t.is_floating_point()}
    save_file(half, tmp_path / "w")
    net = load_into(build_on_meta(), tmp_path / "w")
    assert {t.dtype for t in net.parameters()} == {torch.float32} and net.norm.num_batches_tracked == 0
    assert torch.equal(net.conv.weight, half["conv.weight"].float())
    layout = Layout(uncounted="converted from elsewhere")
    with pytest.warns(FacedecodeWarning, match="w: converted from elsewhere"):
        load_into(build(), tmp_path / "w", [layout])
    save_file(state, tmp_path / "counted")
    load_into(build(), tmp_path / "counted", [layout])  # no warning: it would be an error here


class Payload:
    """Would make a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


Write = Callable[[dict, Path], object]
OLD = {"_use_new_zipfile_serialization": False}


def raw(data: bytes) -> Write:
    return lambda state, path: path.write_bytes(data)


def saved(content: Callable[[dict], object], **options) -> Write:
    return lambda state, path: torch.save(content(state), path, **options)


def changed(**tensors: Tensor) -> Write:
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return saved(lambda state: state | named)


def cut(kind: str, keep: Callable[[int], int]) -> Write:
    def write(state: dict, path: Path) -> None:
        save_file(state, path) if kind == "safe" else torch.save(state, path, **(OLD if kind == "old" else {}))
        data = path.read_bytes()
        path.write_bytes(data[: keep(len(data))])

    return write


def pickled(content: Callable[[Path], object], how: str) -> Write:
    """Something that would make the file `ran` beside it, if it were run."""

    def write(state: dict, path: Path) -> None:
        given = content(path.with_name("ran"))
        if how == "plain":
            path.write_bytes(pickle.dumps(given, 2))
        else:
            torch.save({"w": given}, path, **(OLD if how == "old" else {}))

    return write


SPOILT: dict[str, tuple[Write, str]] = {
    "empty": (raw(b""), "is empty; download it again"),
    "lfs": (
        raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "git-LFS pointer.*git lfs pull",
    ),
    "html": (raw(b"\n<!doctype html><html><body>Sign in</body></html>"), "is a web page, not the file itself"),
    "json": (raw(b'{"message": "Not Found"}'), "is text, not a model"),
    "noise": (raw(bytes(range(1, 200))), "neither a safetensors nor a torch file"),
    "zip, half": (cut("zip", lambda size: size // 2), "truncated or damaged.*download it again"),
    "zip, end": (cut("zip", lambda size: size - 30), "truncated or damaged.*download it again"),
    "old, half": (cut("old", lambda size: size // 2), "damaged.*download it again"),
    "old, end": (cut("old", lambda size: size - 30), "damaged.*download it again"),
    "old, head": (cut("old", lambda size: 40), "damaged.*download it again"),
    "safetensors, end": (cut("safe", lambda size: size - 30), "not a readable safetensors file.*download it again"),
    "code": (pickled(Payload, "zip"), "holds more than tensors.*not loaded"),
    "code, old": (pickled(Payload, "old"), "holds more than tensors.*not loaded"),
    "code, plain": (pickled(Payload, "plain"), "holds more than tensors.*not loaded"),
    "arrays": (pickled(lambda _: {"w": torch.ones(2).numpy()}, "plain"), "holds more than tensors.*not loaded"),
    "network": (saved(lambda _: Net()), "holds more than tensors.*state_dict"),
    "list": (saved(lambda _: [torch.zeros(2)]), "holds no state dict"),
    "tensor": (saved(lambda _: torch.zeros(2)), "holds no state dict"),
    "nothing": (saved(lambda _: {}), "holds no state dict"),
    "numbers": (saved(lambda _: {"state_dict": {"a": 1}}), "holds no state dict"),
    "lacking": (
        saved(lambda state: {k: v for k, v in state.items() if k != "fc.bias"}),
        r"not these weights: tensors 1 missing \(fc.bias\)",
    ),
    "extra": (changed(zz__weight=torch.zeros(1)), r"1 unexpected \(zz.weight\)"),
    "many": (
        saved(lambda _: {f"l{i}.weight": torch.zeros(1) for i in range(9)}),
        r"8 missing \(.*…\); 9 unexpected \(.*…\)",
    ),
    "shape": (changed(fc__bias=torch.zeros(3)), r"1 of another shape or type \(fc.bias: 3, not 2\)"),
    "integers": (changed(fc__bias=torch.zeros(2, dtype=torch.int8)), r"\(fc.bias: int8 numbers\)"),
    "nan": (changed(fc__bias=torch.tensor([0, torch.nan])), "fc.bias holds NaN or Inf"),
    "inf": (changed(conv__weight=torch.full((4, 3, 3, 3), torch.inf)), "conv.weight holds NaN or Inf"),
    "beyond float32": (changed(fc__bias=torch.full((2,), 1e300, dtype=torch.float64)), "fc.bias holds NaN or Inf"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_refused_is_refused_in_one_line(case: str, state: dict, tmp_path: Path) -> None:
    write, said = SPOILT[case]
    path = tmp_path / "bad.pth"
    write(state, path)
    with pytest.raises(BadInput, match=rf"^[^\n]*bad\.pth: [^\n]*{said}[^\n]*$"):
        load_into(build(), path)
    assert not (tmp_path / "ran").exists()


def test_a_layer_that_is_named_twice_is_refused(state: dict, tmp_path: Path) -> None:
    save_file(state | {"theirs.weight": state["fc.weight"].clone()}, tmp_path / "w")
    with pytest.raises(BadInput, match=r"w: names the layer fc\.weight twice"):
        load_into(build(), tmp_path / "w", [Layout("another", {"theirs": "fc"})])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.pt: no such file"):
        read_tensors(tmp_path / "none.pt")
