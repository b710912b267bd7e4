"""The scripts of `examples/` that make the paper's figures: what they train, show and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import draw_people
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from facedecode.decoders import Provenance, load_decoder, save_decoder
from facedecode.decoders.closed_form import Ridge
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput, FacedecodeError, OutputError, UsageError
from facedecode.evaluation.cohort import make_judge, unseen_images
from facedecode.inversion.refinement import refine
from facedecode.known_pictures import KnownPictures
from facedecode.mapping.maps import fit_mapping, load_mapping
from facedecode.perceptual.lpips import Lpips
from facedecode.pictures import align
from facedecode.pictures.figures import GAP, picture_grid
from facedecode.pictures.images import load_image
from facedecode.pictures.perturb import parse_transform, perturb
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.custom_runtime import load_program
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.statistics.bootstrap import Estimate
from facedecode.statistics.scores import score_matrix
from facedecode.store import Store
from facedecode.store.images import embed_perturbed, read_portraits, row_face


@pytest.fixture
def stores(tiny: Path, tmp_path: Path) -> Path:
    """The folder with the stores `one` (of `tiny`) and `two` (of `tiny-cosine`), and lists of people."""
    for folder, name in (("one", "tiny"), ("two", "tiny-cosine")):
        draw_people(tmp_path / folder, tmp_path / "faces", name, tiny)
    (tmp_path / "train.txt").write_text("".join(f"P{k}\n" for k in range(5, 10)))
    (tmp_path / "test.txt").write_text("".join(f"P{k}\n" for k in range(5)))
    return tmp_path


# ---------------------------------------------------------------- Table 1


@pytest.fixture
def table1(
    script: Callable[[str], ModuleType], stores: Path, tiny: Path, published: Callable[..., Path]
) -> Callable[..., dict]:
    """Runs `table1.py` with a small budget: its report as JSON."""
    published("alexnet", stores / "alexnet.safetensors")

    def run(*more: object, output: str = "out") -> dict:
        given = [stores / "one", stores / "two", "--weights", f"tiny={tiny}", f"tiny-cosine={tiny}"]
        given += ["--lpips-trunk", stores / "alexnet.safetensors", "--train-people", stores / "train.txt"]
        given += ["--exclude", "P9", "--people", stores / "test.txt", "--work", stores / "work"]
        given += ["--images", 10, "--steps", 2, "--seeds", 2, "--repetitions", 100, "-o", stores / output]
        script("table1").main([str(x) for x in (*given, *more)])
        return json.loads((stores / output / "report.json").read_text())

    return run


SMALL = ("--rows", "full", "perc", "pix", "--variants", "tiny/tiny", "tiny/tiny-cosine")


def by_row(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """Folders of decoders by row and φ, in the order of their seeds."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.iterdir()):
        _, phi, row, *_ = path.name.split(",")
        found.setdefault((row, phi), []).append(path)
    return found


def test_the_table_is_of_its_decoders(
    table1: Callable[..., dict], script: Callable[[str], ModuleType], stores: Path
) -> None:
    report = table1(*SMALL)
    found = report["metrics"]["variants"]
    store = Store.open(stores / "one")
    originals = read_portraits(store.rows().to_pylist()[:15], store.root, 64)
    folders = by_row(stores / "work")
    assert {key: len(paths) for key, paths in folders.items()} == {
        ("full", "tiny"): 2,
        ("full", "tiny-cosine"): 2,
        ("perc", "tiny"): 2,
        ("perc", "tiny-cosine"): 2,
        ("pix", "no-phi"): 2,  # it has no perceptual term: trained once for both φ
    }
    lpips = Lpips(stores / "alexnet.safetensors")
    psnr: dict[tuple[str, str], np.ndarray] = {}
    for (row, phi), paths in folders.items():
        card = json.loads((paths[1] / "decoder.json").read_text())
        training, config = card["training"], card["config"]
        assert training["settings"]["weights"] == asdict(script("table1").loss_weights(row))
        assert (config["coarse"], training["images"], training["settings"]["seed"]) == (0, 10, 1)
        assert set(training["people"]) <= {"P5", "P6", "P7", "P8"}
        drawn = [load_decoder(path).decode(store.templates()[:15]) for path in paths]
        psnr[row, phi] = np.array(
            [[peak_signal_noise_ratio(*pair) for pair in zip(originals, x, strict=True)] for x in drawn]
        )
        distance = np.mean([lpips(x, originals) for x in drawn])
        for variant in [f"tiny/{phi}"] if phi != "no-phi" else found:
            own = found[variant][row]
            assert own["psnr"]["seeds"] == pytest.approx(psnr[row, phi].mean(1))
            assert own["psnr"]["value"] == pytest.approx(psnr[row, phi].mean())
            assert own["lpips"]["value"] == pytest.approx(distance, rel=1e-5)
    compared = {(x["variant"], x["difference"]): x["psnr"] for x in report["metrics"]["orderings"]}
    for (variant, what), a, b in [
        (("tiny/tiny", "full less perc"), ("full", "tiny"), ("perc", "tiny")),
        (("tiny/tiny-cosine", "perc less pix"), ("perc", "tiny-cosine"), ("pix", "no-phi")),
        (("tiny", "tiny/tiny less tiny/tiny-cosine"), ("full", "tiny"), ("full", "tiny-cosine")),
    ]:
        assert compared[variant, what]["value"] == pytest.approx((psnr[a] - psnr[b]).mean(), abs=1e-9)
        assert compared[variant, what]["seeds"] == pytest.approx((psnr[a] - psnr[b]).mean(1), abs=1e-9)
    assert {path.name for path in (stores / "out" / "figures").iterdir()} == {
        "faces-tiny-tiny.png",
        "faces-tiny-tiny-cosine.png",
    }


def test_a_rows_terms_are_on_and_no_others(script: Callable[[str], ModuleType]) -> None:
    module = script("table1")
    weights = {row: asdict(module.loss_weights(row)) for row in module.ROWS}
    whole = {"pixel", "gradient", "perceptual"}
    assert {row: {name for name, weight in own.items() if weight} for row, own in weights.items()} == {
        "full": whole | {f"local_{name}" for name in whole},
        "global": whole,
        "pix+grad": {"pixel", "gradient"},
        "pix+perc": {"pixel", "perceptual"},
        "grad+perc": {"gradient", "perceptual"},
        "perc": {"perceptual"},
        "pix": {"pixel"},
        "grad": {"gradient"},
    }
    for own in weights.values():  # a term weighs the same wherever it is on
        assert all(weight in (0, weights["full"][name]) for name, weight in own.items())


def test_what_is_there_is_not_trained_again(
    table1: Callable[..., dict], script: Callable[[str], ModuleType], stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--rows", "perc", "pix", "--variants", "tiny/tiny", "--seeds", "1")
    module, trained = script("table1"), []
    train = module.train_decoder

    def counted(inputs, *rest, **more):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(inputs.folder)
        return train(inputs, *rest, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "train_decoder", counted)
        table1(*few)
    before = {path: (path / "decoder.safetensors").read_bytes() for path in trained}
    first = table1(*few)
    assert before == {path: (path / "decoder.safetensors").read_bytes() for path in trained}
    monkeypatch.setattr(module, "train_decoder", None)
    assert table1(*few, output="again")["metrics"] == first["metrics"]
    with pytest.raises(TypeError):  # another budget is another job
        table1(*few, "--steps", 3, output="more")


def test_the_closed_forms_are_judged_beside_the_rows(table1: Callable[..., dict], stores: Path) -> None:
    report = table1("--rows", "ridge", "mean-face", "pix", "--variants", "tiny/tiny")
    found, store = report["metrics"]["variants"]["tiny/tiny"], Store.open(stores / "one")
    assert set(found) == {"pix", "mean-face", "ridge"}
    card = json.loads(next((stores / "work").glob("*,ridge,0,*/decoder.json")).read_text())
    rows = store.rows().to_pylist()
    originals = read_portraits(rows[:15], store.root, 64)
    # Ten of P5 to P8's images, drawn as they are for the networks.
    chosen = 15 + np.sort(np.random.default_rng(0).choice(12, 10, replace=False))
    portraits = read_portraits([rows[i] for i in chosen], store.root, 64)
    fitted = Ridge(store.dim, 64).fit(
        torch.from_numpy(store.templates()[chosen]), torch.from_numpy(portraits).permute(0, 3, 1, 2)
    )
    with torch.no_grad():
        drawn = fitted(torch.from_numpy(store.templates()[:15])).clamp(0, 1)
    pictures = {
        "ridge": np.rint(255 * drawn.permute(0, 2, 3, 1).numpy()),
        "mean-face": np.rint(np.broadcast_to(portraits.astype(float).mean(0), originals.shape)),
    }
    for row, made in pictures.items():
        values = [peak_signal_noise_ratio(a, b.astype(np.uint8)) for a, b in zip(originals, made, strict=True)]
        assert found[row]["psnr"]["value"] == pytest.approx(np.mean(values), abs=0.01)
        assert len(set(found[row]["psnr"]["seeds"])) == 1  # it has none, and stands once
    assert set(card["training"]["people"]) <= {"P5", "P6", "P7", "P8"} and card["kind"] == "ridge"
    compared = {x["difference"]: x["psnr"]["value"] for x in report["metrics"]["orderings"]}
    assert set(compared) == {"pix less mean-face", "pix less ridge", "ridge less mean-face"}
    for what, value in compared.items():
        a, b = what.split(" less ")
        assert value == pytest.approx(found[a]["psnr"]["value"] - found[b]["psnr"]["value"])


def test_a_trial_says_so(table1: Callable[..., dict]) -> None:
    report = table1("--rows", "pix", "--variants", "tiny/tiny", "--seeds", "1", "--limit", "8")
    said = " ".join(report["warnings"])
    assert "7 images of the people judged on were left out: a trial run" in said and "1 seed only" in said


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        (["--rows", "ful"], UsageError, "--rows ful: there are full, global"),
        (["--variants", "tiny/vgg"], UsageError, "--variants tiny/vgg: there are tiny/tiny, tiny/tiny-cosine"),
        (["--images", "13"], BadInput, "train.txt: 12 of its people's images have a template in all stores"),
        (["--weights", "vgg=x"], UsageError, "--weights vgg: no store is of that recognizer"),
    ],
)
def test_what_cannot_be_is_refused(
    table1: Callable[..., dict], more: list[str], error: type[FacedecodeError], said: str
) -> None:
    with pytest.raises(error, match=said):
        table1(*more)


def test_people_of_the_training_are_not_judged_on(table1: Callable[..., dict], stores: Path) -> None:
    (stores / "test.txt").write_text("P1\nP2\nP7\n")
    with pytest.raises(BadInput, match=r"trained on 1 of the 3 people .* \(P7\)"):
        table1()
    (stores / "test.txt").write_text("P1\nP2\n")
    manifest = json.loads((stores / "two" / "manifest.json").read_text())
    manifest["recognizer"]["training_people"] = ["P2", "P7"]
    (stores / "two" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match=r"recognizer tiny-cosine: trained on 1 of the 2 people .* \(P2\)"):
        table1()


@pytest.mark.parametrize(
    ("low", "high", "seeds", "bounds", "verdict"),
    [
        (0.1, 0.3, [0.1, 0.2], (0, np.inf), "yes"),
        (-0.3, -0.1, [-0.2], (0, np.inf), "no"),
        (-0.1, 0.3, [0.1], (0, np.inf), "not decided"),
        (0.1, 0.3, [-0.1, 0.5], (0, np.inf), "not decided"),  # the seeds do not agree
        (-0.3, -0.1, [-0.2], (-np.inf, 0), "yes"),
        (-0.5, 0.7, [0.1], (-0.75, 0.75), "yes"),
        (-0.9, 0.7, [0.1], (-0.75, 0.75), "not decided"),
        (-2, 2, [0.1], (-0.75, 0.75), "not decided"),
        (0.8, 0.9, [0.85], (-0.75, 0.75), "no"),
        (-0.9, -0.8, [-0.85], (-0.75, 0.75), "no"),
        (None, None, [0.1], (0, np.inf), "not decided"),
    ],
)
def test_verdicts(script: Callable[[str], ModuleType], low, high, seeds, bounds, verdict) -> None:
    claim = script("table1_report").Claim("", "", "", None, Estimate(0.1, low, high, 9), seeds, bounds)
    assert claim.verdict() == verdict


def test_the_papers_orderings_are_those_of_its_table(script: Callable[[str], ModuleType]) -> None:
    paper = script("table1_report").PAPER
    assert list(paper) == list(script("table1").ROWS)
    assert max(paper, key=lambda row: paper[row][1]) == "full" and min(paper, key=lambda row: paper[row][1]) == "perc"


# ---------------------------------------------------------------- Fig. 1, 3 and 5


def ridge(folder: Path, store: Path, side: int = 64, trained: tuple[str, ...] = ("P5", "P6", "P7")) -> Path:
    """A decoder of a store, trained on some of its people."""
    own = Store.open(store)
    rows = own.rows().to_pylist()
    kept = [i for i, row in enumerate(rows) if row["identity"] in trained]
    portraits = torch.from_numpy(read_portraits([rows[i] for i in kept], own.root, side)).permute(0, 3, 1, 2)
    net = Ridge(own.dim, side).fit(torch.from_numpy(own.templates()[kept]), portraits)
    save_decoder(
        folder,
        "ridge",
        net,
        Provenance(own.recognizer, training=TrainingRecord.from_json("it", {"people": list(trained)})),
        pictures=KnownPictures(),
    )
    return folder


@pytest.fixture
def side_by_side(script: Callable[[str], ModuleType], stores: Path) -> Callable[..., np.ndarray]:
    """Runs `side_by_side.py` with these (label, store, decoder): the picture."""

    def run(*rows: tuple[str, Path, Path], more: tuple[str, ...] = ()) -> np.ndarray:
        given = [str(x) for row in rows for x in ("--row", *row)]
        given += ["--people", str(stores / "test.txt"), "--columns", "3", "-o", str(stores / "fig.png"), *more]
        script("side_by_side").main(given)
        return np.asarray(Image.open(stores / "fig.png"))

    return run


def test_each_row_is_its_decoders(side_by_side: Callable[..., np.ndarray], stores: Path) -> None:
    decoders = [ridge(stores / f"ridge-{name}", stores / name, 128) for name in ("one", "two")]
    rows = list(zip(("a", "b"), (stores / "one", stores / "two"), decoders, strict=True))
    picture = side_by_side(*rows)
    shown = [0, 6, 12]  # the first image each of P0, P2, P4
    own = Store.open(stores / "one")
    wanted = [read_portraits([own.rows().to_pylist()[i] for i in shown], own.root, 128)]
    wanted += [load_decoder(d).decode(Store.open(s).templates()[shown]) for _, s, d in rows]
    left = picture.shape[1] - 3 * (128 + GAP) + GAP
    bottom = picture.shape[0]
    tops = [0, bottom - 2 * 128 - GAP, bottom - 128]
    for top, pictures in zip(tops, wanted, strict=True):
        for k, one in enumerate(pictures):
            x = left + k * (128 + GAP)
            np.testing.assert_array_equal(picture[top : top + 128, x : x + 128], one)


def test_an_image_that_one_store_lacks_is_not_shown(
    side_by_side: Callable[..., np.ndarray], stores: Path, tiny: Path
) -> None:
    few = draw_people(stores / "few", stores / "faces", "tiny-cosine", tiny, people=2)
    first, second = ridge(stores / "a", stores / "one"), ridge(stores / "b", stores / "two")
    whole = side_by_side(("x", stores / "one", first), ("x", stores / "two", second))
    part = side_by_side(("x", stores / "one", first), ("x", few, second), more=("--overwrite",))
    assert whole.shape[1] - part.shape[1] == 128 + GAP  # two people are left of three; 64 px are shown as 128


def test_side_by_side_refuses(side_by_side: Callable[..., np.ndarray], stores: Path) -> None:
    one, two = stores / "one", stores / "two"
    plain, large = ridge(stores / "plain", one), ridge(stores / "large", one, 128)
    seen = ridge(stores / "seen", one, trained=("P0", "P5"))
    for rows, error, said in [
        ([("x", two, plain)], BadInput, "the decoder .*plain is for tiny .*templates come from tiny-cosine"),
        ([("x", one, plain), ("y", one, large)], BadInput, "the decoders draw 64, 128 px"),
        ([("x", one, seen)], BadInput, r"decoder x: trained on 1 of the 3 people .* \(P0\)"),
    ]:
        with pytest.raises(error, match=said):
            side_by_side(*rows)
    side_by_side(("x", one, plain))
    with pytest.raises(OutputError, match=r"fig\.png is there already; use --overwrite"):
        side_by_side(("x", one, plain))


def test_larger_pictures_are_reduced_and_judged(side_by_side: Callable[..., np.ndarray], stores: Path) -> None:
    one = stores / "one"
    large, small = ridge(stores / "large", one, 128), ridge(stores / "small", one, 64)
    rows = [("x", one, large), ("y", one, small)]
    more = ("--side", "64", "--psnr", "--figures", str(stores / "fig.json"), "--judged", "99")
    picture = side_by_side(*rows, more=more)
    own = Store.open(one)
    first = [0, 3, 6, 9, 12]  # of each of the five people
    originals = read_portraits([own.rows().to_pylist()[i] for i in first], own.root, 64)
    drawn = [load_decoder(x).decode(own.templates()[first]) for x in (large, small)]
    blocks = drawn[0].reshape(5, 64, 2, 64, 2, 3).astype(float).mean((2, 4))
    drawn[0] = np.rint(blocks).astype(np.uint8)
    found = json.loads((stores / "fig.json").read_text())
    assert (found["side"], found["pictures"], list(found["rows"])) == (64, 5, ["x", "y"])
    for name, pictures in zip("xy", drawn, strict=True):
        values = [peak_signal_noise_ratio(a, b) for a, b in zip(originals, pictures, strict=True)]
        assert found["rows"][name]["psnr"]["value"] == pytest.approx(np.mean(values), abs=1e-6)
        assert found["rows"][name]["ssim"]["n"] == 5
    # The second row of pictures, below the names, is the large decoder's, shown as 128 px again.
    left = picture.shape[1] - 3 * (128 + GAP) + GAP
    line = (picture.shape[0] - 2 * GAP - 3 * 128) // 3
    top = 128 + line + GAP
    np.testing.assert_array_equal(
        picture[top : top + 128, left : left + 128], drawn[0][0].repeat(2, axis=0).repeat(2, axis=1)
    )
    with pytest.raises(UsageError, match="pictures of 128 px cannot be shown at 100 px"):
        side_by_side(*rows, more=("--side", "100", "--overwrite"))
    with pytest.raises(OutputError, match=r"fig\.json is there already"):
        side_by_side(*rows, more=(*more, "-o", str(stores / "new.png")))


def test_eigenfaces_have_the_portraits_mean_and_variance(script: Callable[[str], ModuleType], stores: Path) -> None:
    output = stores / "faces.pt2"
    given = [str(stores / "one"), "-o", str(output), "--components", "4", "--size", "32"]
    script("eigenface_generator").main([*given, "--people", str(stores / "train.txt"), "--exclude", "P9"])
    generate = load_program(output)
    own = Store.open(stores / "one")
    rows = [row for row in own.rows().to_pylist() if row["identity"] in {"P5", "P6", "P7", "P8"}]
    pixels = read_portraits(rows, own.root, 32).transpose(0, 3, 1, 2).reshape(len(rows), -1) / 255
    mean = generate(torch.zeros(1, 4))
    np.testing.assert_allclose(mean.flatten(), pixels.mean(0), atol=1e-5)
    components = (generate(torch.eye(4)) - mean).flatten(1).numpy()
    variances = np.linalg.svd(pixels - pixels.mean(0), compute_uv=False)[:4] ** 2 / len(rows)
    np.testing.assert_allclose(components @ components.T, np.diag(variances), atol=variances[0] * 2e-2)
    with pytest.raises(OutputError, match=r"faces\.pt2 is there already"):
        script("eigenface_generator").main(given)


# ---------------------------------------------------------------- refinement


@pytest.fixture
def refined(script: Callable[[str], ModuleType], stores: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `refinement.py` on five images of the tiny stores: its module, its decoder's folder, its report as JSON."""
    module = script("refinement")
    monkeypatch.setattr(module, "FMRS", (0.1, 0.05))
    decoder = ridge(stores / "decoder", stores / "one")

    def run(*more: str) -> tuple[ModuleType, Path, dict]:
        given = [stores / "one", "--against", stores / "two", "--weights", f"tiny={tiny}", f"tiny-cosine={tiny}"]
        given += ["--people", stores / "test.txt", "--decoder", decoder, "--images", 5, "--steps", 3]
        module.main([str(x) for x in (*given, "--repetitions", 100, "-o", stores / "refined", *more)])
        return module, decoder, json.loads((stores / "refined" / "report.json").read_text())

    return run


def test_gains_of_refinement_are_those_of_a_loop(refined, stores: Path, tiny: Path) -> None:
    module, folder, report = refined()
    found = report["metrics"]
    store, decoder = Store.open(stores / "one"), load_decoder(folder)
    recognizers = {name: load_recognizer(name, tiny) for name in ("tiny", "tiny-cosine")}
    images = unseen_images(store, stores / "test.txt")
    judges = {
        name: make_judge(recognizer, Store.open(stores / where), images)
        for (name, recognizer), where in zip(recognizers.items(), ("one", "two"), strict=True)
    }
    rows = module.sampled(images, judges, 5, 0)
    people = [images.identities[row] for row in rows]
    assert len(set(people)) == 5, "one image of each person first"
    after = refine(images.templates[rows], decoder, recognizers["tiny"], 3, seed=0)
    drawn = {"decoder": decoder.decode(images.templates[rows]), "refined": after.pictures}
    assert found["improved"] == (after.after > after.before).sum() > 0
    for name, judge in judges.items():
        kind = judge.recognizer.spec.score
        real = score_matrix(judge.templates, judge.templates, kind)
        same = np.equal.outer(images.identities, images.identities)
        strangers = np.sort(real[np.triu(~same)])[::-1]
        for fmr in (0.1, 0.05):
            threshold = strangers[int(fmr * len(strangers))]  # the first that is one too many: strictly above it
            rates = {}
            for by, pictures in drawn.items():
                scores = score_matrix(embed_pictures(recognizers[name], pictures), judge.templates, kind)
                one = np.mean([scores[k, row] > threshold for k, row in enumerate(rows)])
                others = [np.flatnonzero(same[row] & (np.arange(len(same)) != row)) for row in rows]
                two = np.mean([(scores[k, other] > threshold).mean() for k, other in enumerate(others)])
                rates[by] = {"type_one": one, "type_two": two}
                for attack, value in rates[by].items():
                    assert found["rates"][by][name][attack][f"{fmr:g}"]["value"] == pytest.approx(value)
            for attack, value in rates["refined"].items():
                gain = found["gains"][name][attack][f"{fmr:g}"]
                assert gain["value"] == pytest.approx(value - rates["decoder"][attack]) and gain["n"] == 5


@pytest.mark.parametrize("option", ["--images", "--steps"])
def test_refinement_of_nothing_is_a_usage_error(refined, option: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        refined(option, "0")
    assert stopped.value.code == 2


# ---------------------------------------------------------------- Fig. 8 to 11


@pytest.fixture
def appearance(script: Callable[[str], ModuleType], stores: Path, tiny: Path) -> Callable[..., np.ndarray]:
    """Runs `appearance.py` for two people, with maps that were fitted on P5 to P9: the picture."""
    store, recognizer = Store.open(stores / "one"), load_recognizer("tiny", tiny)
    rows = [row for row in store.rows().to_pylist() if row["identity"] >= "P5"]
    (stores / "maps").mkdir()
    for name in ("scale0.5", "scale1.5", *SHIFTS):
        [(_, turned)] = embed_perturbed(rows, store.root, recognizer, parse_transform(name))
        blocks = [(turned, store.templates()[15:], np.zeros(15, bool))]
        people = {"parts": [{"store": store.fingerprint, "people": [f"P{k}" for k in range(5, 10)], "perturbed": None}]}
        mapping = fit_mapping(blocks, name, store.recognizer, ridge=0.01, provenance=people)
        mapping.save(stores / "maps" / f"{name}.safetensors")
    decoder = ridge(stores / "decoder", stores / "one", 128)

    def run(*more: object) -> np.ndarray:
        given = [stores / "one", "--mappings", stores / "maps", "--decoder", decoder, "--weights", tiny, *more]
        given += ["--people", stores / "test.txt", "--shown", 2, "-o", stores / "fig.png"]
        script("appearance").main([str(x) for x in given])
        return np.asarray(Image.open(stores / "fig.png"))

    return run


SHIFTS = ("shift-left", "shift-right", "shift-up", "shift-down")


@pytest.mark.filterwarnings("default::facedecode.errors.FacedecodeWarning")
@pytest.mark.parametrize(("figure", "names"), [("scales", ("scale0.5", "scale1.5")), ("shifts", SHIFTS)])
def test_each_row_is_what_it_says(appearance, script, stores: Path, tiny: Path, monkeypatch, figure, names) -> None:
    said: list[list[str]] = []

    def kept(rows, labels, captions):
        said.extend(captions)
        return picture_grid(rows, labels, captions)

    monkeypatch.setattr(script("appearance"), "picture_grid", kept)
    picture = appearance("--figure", figure)
    store, recognizer = Store.open(stores / "one"), load_recognizer("tiny", tiny)
    decoder, frame = load_decoder(stores / "decoder"), align.portrait_crop(128)
    left = picture.shape[1] - len(names) * (128 + GAP) + GAP
    line = (picture.shape[0] + GAP) // 10 - 128 - GAP  # every row of the ten has a caption
    for person, shown in enumerate((3, 9)):  # the first image each of P1 and P3
        row, template = store.rows().to_pylist()[shown], store.templates()[shown]
        image, face = load_image(store.root / row["path"]), row_face(row)
        for k, name in enumerate(names):
            turned = perturb(image, face, parse_transform(name))
            own = recognizer.embed_crops(recognizer.crop(turned, face)[None])
            mapped = load_mapping(stores / "maps" / f"{name}.safetensors").apply(own)
            drawn = [decoder.decode(x)[0] for x in (own, mapped, template[None])]
            wanted = [align.crop(image, face, frame), align.crop(turned, face, frame), *drawn]
            for place, one in enumerate(wanted):
                top, x = (5 * person + place) * (128 + line + GAP), left + k * (128 + GAP)
                # A batch of one rounds otherwise.
                np.testing.assert_allclose(picture[top : top + 128, x : x + 128], one.astype(float), atol=1)
            distances = [np.linalg.norm(embed_pictures(recognizer, d[None])[0] - template) for d in drawn]
            found = [float(captions[k]) for captions in said[5 * person + 2 : 5 * person + 5]]
            assert found == pytest.approx([-d for d in distances], abs=6e-4)
            assert said[5 * person][k] == row["identity"] and name.startswith(said[5 * person + 1][k].rstrip("…"))


@pytest.mark.filterwarnings("default::facedecode.errors.FacedecodeWarning")
def test_appearance_refuses(appearance, stores: Path, tiny: Path) -> None:
    seen, maps = ridge(stores / "seen", stores / "one", 128, ("P1", "P5")), stores / "maps"
    with pytest.raises(BadInput, match=r"trained on 1 of the 2 people .* \(P1\)"):
        appearance("--figure", "scales", "--decoder", seen)
    with pytest.raises(BadInput, match=r"rotate30\.safetensors: no such mapping"):
        appearance("--figure", "rotations")
    with pytest.raises(BadInput, match=r"other is for tiny-cosine .* templates come from tiny "):
        appearance("--figure", "scales", "--decoder", ridge(stores / "other", stores / "two", 128))
    mapping = load_mapping(maps / "scale0.5.safetensors")
    for report, said in [
        ({"provenance": {"parts": [{"people": ["P3", "P7"]}]}}, r"scale0\.5.* fitted on 1 of the 2 people .*\(P3\)"),
        ({"provenance": {"parts": [{"people": ["P7"]}, {"people": None}]}}, "records no list of the people"),
        ({}, "records no list of the people"),
    ]:
        replace(mapping, report=report).save(maps / "scale0.5.safetensors")
        with pytest.raises(BadInput, match=said):
            appearance("--figure", "scales")
    replace(mapping, transform="scale1.5").save(maps / "scale0.5.safetensors")
    with pytest.raises(BadInput, match=r"scale0\.5.safetensors: undoes scale1\.5; fit one of scale0\.5"):
        appearance("--figure", "scales")
    (stores / "fig.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"fig\.png is there already; use --overwrite"):
        appearance("--figure", "scales")
