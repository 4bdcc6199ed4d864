"""Weights come back as they were saved, by name, path and URL; what does not fit is refused."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slidefusion import weights
from slidefusion.errors import (
    PluginError,
    ProcessingError,
    SlidefusionError,
    UnknownNameError,
    WeightsError,
)
from slidefusion.nets import build
from slidefusion.nets.input_ranges import from_text

torch = pytest.importorskip("torch")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network = build("generator", planes=1, width=8)
    return weights.save(tmp_path / "mine.safetensors", network, {"fuser": "focusgan", "steps": 3})


def change_card(path: Path, **changes: Any) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = build("generator", planes=1, width=8).eval()
    path = weights.save(tmp_path / "w", network, {"fuser": "focusgan"}, dtype="float32")
    assert path == tmp_path / "w.safetensors"
    loaded = weights.load(str(path), fuser="focusgan", planes=1)
    stack, masks = torch.rand(1, 1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        wanted, found = network(stack, masks), loaded.network(stack, masks)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)  # another layout, another order
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert loaded.network.down1[0][0].weight.is_contiguous(memory_format=torch.channels_last)


def test_the_card_says_what_it_is(saved: Path) -> None:
    card = json.loads(saved.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert (card["name"], card["network"], card["planes"]) == ("mine", "generator", 1)
    assert card["config"] == build("generator", planes=1, width=8).config
    assert card["steps"] == 3 and card["dtype"] == "bfloat16"
    network = weights.load(str(saved)).network
    assert card["parameters"] == sum(p.numel() for p in network.parameters())
    assert sorted(p.name for p in saved.parent.iterdir()) == ["mine.json", "mine.safetensors"]


def test_matrices_are_halved_and_vectors_are_not(saved: Path) -> None:
    from safetensors.torch import load_file

    kinds = {t.ndim > 1: t.dtype for t in load_file(saved).values() if t.is_floating_point()}
    assert kinds == {True: torch.bfloat16, False: torch.float32}


def test_a_network_is_loaded_once(saved: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: weights.load(str(saved)), range(8)))
    assert len({id(each.network) for each in loaded}) == 1
    copy = tmp_path / "copy"
    shutil.copytree(saved.parent, copy, ignore=shutil.ignore_patterns("copy"))
    assert weights.load(str(copy / saved.name)).network is loaded[0].network, "by digest"
    assert {p.dtype for p in loaded[0].network.parameters()} == {torch.float32}


def test_a_file_that_was_replaced_is_read_again(saved: Path) -> None:
    first = weights.load(str(saved))
    weights.save(saved, build("generator", planes=1, width=16), {"fuser": "focusgan"})
    assert weights.load(str(saved)).card.sha256 != first.card.sha256


def test_urls_are_read_through_fsspec(saved: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in (saved, saved.with_suffix(".json")):
        memory.pipe(f"/weights/{path.name}", path.read_bytes())
    try:
        loaded = weights.load("memory://weights/mine.safetensors")
        assert loaded.network is weights.load(str(saved)).network
    finally:
        memory.rm("/weights", recursive=True)


def test_loading_leaves_random_numbers_alone(saved: Path) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    weights.load(str(saved))
    assert torch.equal(torch.rand(3), wanted)


def test_the_blur_model_beside_is_found(saved: Path) -> None:
    change_card(saved, blur_model="blur")
    nowhere = weights.look_up(str(saved))
    try:
        assert weights.blur_model_of(nowhere) == weights.look_up("blur")
    except UnknownNameError as error:
        assert "'blur'" in str(error), "by name where none lies beside"
    beside = saved.with_name("blur.safetensors")
    shutil.copy(saved, beside)
    shutil.copy(saved.with_suffix(".json"), beside.with_suffix(".json"))
    found = weights.blur_model_of(weights.look_up(str(saved)))
    assert found is not None and found.reference == str(beside)


def test_a_blur_model_that_is_nowhere_is_named(saved: Path) -> None:
    change_card(saved, blur_model="nowhere")
    with pytest.raises(UnknownNameError, match=r"mine.* were trained with a blur model 'nowhere'"):
        weights.blur_model_of(weights.look_up(str(saved)))


def test_a_copy_is_of_these_weights_and_no_others(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    first = weights.look_up(str(saved))
    copy = weights.copy_to(first, folder)
    before = copy.stat().st_mtime_ns
    assert weights.copy_to(first, folder) == copy and copy.stat().st_mtime_ns == before
    weights.save(saved, build("generator", planes=1, width=8), {"fuser": "focusgan"})
    second = weights.look_up(str(saved))
    assert second.sha256 != first.sha256
    with pytest.raises(WeightsError, match="holds other weights than"):
        weights.copy_to(second, folder)
    assert copy.stat().st_mtime_ns == before
    copy.unlink()
    weights.copy_to(second, folder)  # with its card, in place of the old one
    assert weights.load(str(copy)).card.sha256 == second.sha256


def test_another_blur_model_than_in_training_is_refused(saved: Path) -> None:
    beside = saved.with_name("blur.safetensors")
    shutil.copy(saved, beside)
    shutil.copy(saved.with_suffix(".json"), beside.with_suffix(".json"))
    right = weights.look_up(str(beside)).sha256
    change_card(saved, blur_model="blur", blur_sha256=right.upper())
    assert weights.blur_model_of(weights.look_up(str(saved))) is not None
    change_card(saved, blur_sha256="0" * 64)
    with pytest.raises(WeightsError, match=r"trained with a blur model 'blur' .* and .* has"):
        weights.blur_model_of(weights.look_up(str(saved)))


def test_a_checksum_may_be_in_capitals(saved: Path) -> None:
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert weights.load(str(saved), sha256=digest.upper()).card.sha256 == digest


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def no_safetensors(path: Path) -> None:
    path.write_bytes(b"\x80\x04K\x01.")
    change_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def other_card(path: Path) -> None:
    change_card(path, config={"planes": 1, "width": 16})


def other_option(path: Path) -> None:
    change_card(path, config={"planes": 1, "wdith": 8})


def no_channels(path: Path) -> None:
    change_card(path, config={"planes": 1, "width": 0})


def other_network(path: Path) -> None:
    change_card(path, network="os.system")


def huge(path: Path) -> None:
    change_card(path, config={"planes": 1, "width": 2**20})


def outside(path: Path) -> None:
    change_card(path, blur_model="../../other/blur")


def elsewhere(path: Path) -> None:
    change_card(path, blur_model="https://example.org/blur")


def other_planes(path: Path) -> None:
    change_card(path, planes=3)


def whole_numbers(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    save_file({n: t.to(torch.int8) for n, t in tensors.items()}, path)
    change_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def diverged(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, path)
    change_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def a_text_for_a_number(path: Path) -> None:
    change_card(path, config={"planes": 1, "width": "8"})


def no_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


def a_list(path: Path) -> None:
    path.with_suffix(".json").write_text("[1]")


def incomplete(path: Path) -> None:
    change_card(path, fuser=None)


def no_card(path: Path) -> None:
    path.with_suffix(".json").unlink()


FAULTS = [
    (truncated, "damaged or another"),
    (no_safetensors, "no safetensors file"),
    (other_card, "instead of"),
    (other_option, "a config that 'generator' does not take .*'wdith'; did you mean 'width'"),
    (a_text_for_a_number, "width='8' must be of type int, like 64"),
    (diverged, r"holds NaN or infinity in 1 of \d+ tensors"),
    (no_channels, "json has a config .*width=0: must be at least 1"),
    (other_network, "'os.system', and there are only"),
    (huge, "does not fit"),
    (outside, "no path or URL"),
    (elsewhere, "no path or URL"),
    (other_planes, "planes=3, and its config planes=1"),
    (whole_numbers, "is of int8"),
    (no_json, "no JSON"),
    (a_list, "a card is an object"),
    (incomplete, "fuser=None"),
    (no_card, "has no card"),
]


@pytest.mark.parametrize(("damage", "message"), FAULTS, ids=[f.__name__ for f, _ in FAULTS])
def test_a_file_that_does_not_fit_is_refused(saved: Path, damage: Any, message: str) -> None:
    damage(saved)
    with pytest.raises(WeightsError, match=message):
        weights.load(str(saved))


def test_the_wrong_weights_are_refused(saved: Path) -> None:
    with pytest.raises(WeightsError, match="are for 'focusgan', and 'srgan' was asked"):
        weights.load(str(saved), fuser="srgan")
    with pytest.raises(WeightsError, match="take 1 plane, and 3 are needed"):
        weights.load(str(saved), planes=3)
    with pytest.raises(WeightsError, match="install the same weights everywhere"):
        weights.load(str(saved), sha256="0" * 64)


def test_what_is_not_there_is_said(saved: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no weights 'focusgn'.* installed"):
        weights.load("focusgn")
    with pytest.raises(UnknownNameError, match=r"no pack is called 'larg'.*slidefusion"):
        weights.load("larg:focusgan-1")
    with pytest.raises(UnknownNameError, match=r"no weights 'slidefusion:nosuch'.* installed"):
        weights.load("slidefusion:nosuch")
    with pytest.raises(UnknownNameError, match="there is no such file"):
        weights.load("/nowhere/at/all.safetensors")
    with pytest.raises(WeightsError, match="nothing else is read"):
        weights.load("/nowhere/model.pth")
    with pytest.raises(ProcessingError, match="cannot be read"):
        weights.load("nosuchprotocol://a/b.safetensors")
    saved.unlink()
    with pytest.raises(UnknownNameError, match="get the weights, too"):
        weights.load(str(saved))


def test_what_diverged_is_not_saved(tmp_path: Path) -> None:
    network = build("generator", planes=1, width=8)
    with torch.no_grad():
        next(network.parameters())[0] = float("nan")
    with pytest.raises(WeightsError, match=r"1 of \d+ tensors hold NaN"):
        weights.save(tmp_path / "mine", network, {"fuser": "focusgan"})
    assert not list(tmp_path.iterdir())


def test_only_known_networks_are_saved(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="none of slidefusion's networks"):
        weights.save(tmp_path / "w", torch.nn.Linear(2, 2), {"fuser": "focusgan"})
    with pytest.raises(WeightsError, match="fuser=None"):
        weights.save(tmp_path / "w", build("generator", width=8), {})
    with pytest.raises(WeightsError, match="finite"):
        facts = {"fuser": "focusgan", "loss": float("nan")}
        weights.save(tmp_path / "w", build("generator", width=8), facts)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, saved: Path) -> Path:
    """Two packs, ``one`` and ``two``, beside those that are installed, and a broken one."""
    for name in ("pack_one", "pack_two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('never imported')")
        for suffix in (".safetensors", ".json"):
            shutil.copy(saved.with_suffix(suffix), tmp_path / name)
    monkeypatch.syspath_prepend(str(tmp_path))
    installed = importlib.metadata.entry_points

    def entry_points(group: str) -> Any:
        made = [("one", "pack_one"), ("two", "pack_two"), ("lost", "no_such_package")]
        group_name = "slidefusion.weights"
        entries = [importlib.metadata.EntryPoint(*each, group_name) for each in made]
        return [*installed(group=group), *(entries if group == group_name else [])]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return tmp_path


def test_packs_are_found_by_name(packs: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = [card for card in weights.find() if card.name == "mine"]
    assert [card.pack for card in mine] == ["one", "two"]
    assert "no_such_package" in caplog.text, "a broken pack is said, and hides no other"
    with pytest.raises(PluginError, match="'one:mine', 'two:mine'"):
        weights.load("mine")
    assert weights.load("two:mine").card.where == str(packs / "pack_two" / "mine.safetensors")


def test_a_broken_card_hides_no_other(packs: Path, caplog: pytest.LogCaptureFixture) -> None:
    (packs / "pack_one" / "mine.json").write_text("{")
    assert [card.pack for card in weights.find() if card.name == "mine"] == ["two"]
    assert "pack_one/mine.safetensors" in caplog.text
    assert weights.load("mine").card.pack == "two"


def test_what_ships_is_whole_and_small() -> None:
    own = [card for card in weights.find() if card.pack == "slidefusion"]
    size = {card.name: Path(card.where).stat().st_size for card in own}
    assert sum(size[name] for name in ("focusgan-1", "focusgan-3", "blur")) <= 12e6
    assert sum(size.values()) <= 20e6  # with the ablations and what focusgan is compared with
    for card in own:
        assert card.name == Path(card.where).stem
        assert {"trained_on", "command", "commit", "metrics", "license"} <= card.facts.keys()
        network = weights.load(card.name).network
        if card.fuser not in ("blur", "cnn"):
            assert len(from_text(card.facts["input_ranges"], network)) >= 4


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from slidefusion import weights; weights.find();"
        "assert not {'torch', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_refusal_is_ours() -> None:
    assert issubclass(WeightsError, SlidefusionError)


def test_a_server_that_does_not_answer_is_said_to_be_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{unused.getsockname()[1]}/a.safetensors"
    with pytest.raises(
        ProcessingError, match=r"cannot be read \(Client.*check that it is reachable"
    ):
        weights.load(where)
