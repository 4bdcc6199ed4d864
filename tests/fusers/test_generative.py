"""The fusers that are generators: the contract, what networks are given, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import slidefusion as sf
from slidefusion import memory, weights
from slidefusion.engine import ArraySource, fuse_array, fuse_region
from slidefusion.errors import OptionError, StackError, UnknownNameError, WeightsError
from slidefusion.fuser import Fuser
from slidefusion.fusers import network_tiles
from slidefusion.fusers.dtcwt import Dtcwt
from slidefusion.fusers.focusgan import Focusgan
from slidefusion.fusers.fusiongan import FusionGan
from slidefusion.fusers.grain import keep_grain
from slidefusion.fusers.lpp import Lpp
from slidefusion.fusers.pix2pix import Pix2Pix
from slidefusion.fusers.srgan import Srgan
from slidefusion.geometry import Size, Window
from slidefusion.overview import MemoryOverview
from slidefusion.processor import multiplies_bytes
from slidefusion.testing import FuserContract
from slidefusion.testing.stacks import focus_stack, overview
from slidefusion.tiling import Tiling
from slidefusion.value_range import value_range

torch = pytest.importorskip("torch")
from slidefusion.nets import int8_layers  # noqa: E402
from tests.fusers.networks import folder_of, save_tiny  # noqa: E402

FUSERS: dict[str, Any] = {
    "focusgan": Focusgan,
    "fusiongan": FusionGan,
    "pix2pix": Pix2Pix,
    "srgan": Srgan,
}


FOLDER = folder_of("weights")
"""Known before the tests run, since the contract's options are."""


@pytest.fixture(scope="module", autouse=True)
def _weights() -> Iterator[None]:
    for fuser in FUSERS:
        for planes in (1, 3):
            save_tiny(FOLDER, fuser, planes)
    save_tiny(FOLDER, "focusgan", 3, masks=False)
    yield
    shutil.rmtree(FOLDER)


def path_of(name: str) -> str:
    return str(FOLDER / f"{name}.safetensors")


def settings_of(name: str, **options: Any) -> dict[str, Any]:
    return {"weights": path_of(name), "tile": 32, "overlap": 8, "batch": 16, **options}


class GenerativeContract(FuserContract):
    """Each configuration has weights, which are for one plane or for two and three."""

    examples = 3
    channels = (1, 3)
    exempt: ClassVar = {
        "identical_planes_are_an_identity": "it restores what is in no plane",
        "lone_sharp_plane_wins": "random weights choose nothing",
    }

    def plane_counts(self, fuser: Any, least: int = 1) -> list[int]:
        return [1] if weights.look_up(fuser.weights).planes == 1 else [2, 3]

    def ready_fuser(self, options: Any, channels: int | None = None) -> Fuser:
        fuser: Any = self.make_fuser(**options)
        stack = focus_stack(1, self.plane_counts(fuser)[0], channels or 3, 64, 64, "uint8")
        prepared: Fuser = fuser.prepare(overview(stack))
        return prepared


class TestFocusgan(GenerativeContract):
    fuser_class = Focusgan
    options: ClassVar = [
        settings_of("focusgan-3"),
        settings_of("focusgan-1", precision="float32", batch=5, tile=64, overlap=4),
        settings_of("focusgan-3-False", blur_mask=False, tile=64, overlap=0),
        settings_of("focusgan-3", keep_masks=True, tile=64),
        *([settings_of("focusgan-3", precision="int8", tile=64)] if multiplies_bytes() else []),
    ]


class TestFusionGan(GenerativeContract):
    fuser_class = FusionGan
    options: ClassVar = [settings_of("fusiongan-1")]
    examples = 2


class TestPix2Pix(GenerativeContract):
    fuser_class = Pix2Pix
    options: ClassVar = [settings_of("pix2pix-3", tile=64)]
    channels = (2,)
    examples = 2


class TestSrgan(GenerativeContract):
    fuser_class = Srgan
    options: ClassVar = [settings_of("srgan-3", precision="float32")]
    examples = 3


def random_stack(*shape: int, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(shape[-1]).random(shape)
    full = value_range(dtype)
    return (values * full).astype(dtype)


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")
@pytest.mark.parametrize("fuser", FUSERS)
def test_8_bits_make_nearly_the_same_image(fuser: str) -> None:
    stack = random_stack(3, 3, 96, 64)
    images = [
        FUSERS[fuser](**settings_of(f"{fuser}-3", precision=precision, grain=0))(stack).image
        for precision in ("float32", "int8")
    ]
    wanted, found = (image.astype(float) for image in images)
    assert 0 < np.abs(found - wanted).mean() < 0.1 * np.abs(wanted - stack[1]).mean()


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")
@pytest.mark.parametrize(
    ("ranges", "fault"),
    [
        (None, "has no input_ranges, which precision='int8' needs: choose another precision"),
        ({"exit": ["0", "1"]}, "not of its network .'exit' has 1 and 1 values for 4 inputs"),
        ({"exit": 5}, "has input_ranges that are not of its network"),
        ([1], "has input_ranges that are not of its network"),
    ],
)
def test_8_bits_need_ranges_that_fit(tmp_path: Path, ranges: Any, fault: str) -> None:
    path = Path(save_tiny(tmp_path, "srgan", 1))
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "input_ranges": ranges}))
    fuser = Srgan(weights=str(path), tile=32, overlap=8, precision="int8")
    stack = focus_stack(1, 1, 3, 64, 64, "uint8")
    with pytest.raises(WeightsError, match=fault):
        fuser.prepare(overview(stack))(stack)
    replace(fuser, precision="float32").prepare(overview(stack))(stack)


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no VNNI")
def test_8_bits_follow_the_ranges_that_a_card_has_now(tmp_path: Path) -> None:
    path = Path(save_tiny(tmp_path, "srgan", 1))
    fuser = Srgan(weights=str(path), tile=32, overlap=8, grain=0, precision="int8")
    stack = random_stack(1, 3, 64, 64)
    before = fuser(stack).image
    card = json.loads(path.with_suffix(".json").read_text())
    others = {"exit": [" ".join(["-0.01"] * 4), " ".join(["0.01"] * 4)]}
    path.with_suffix(".json").write_text(json.dumps({**card, "input_ranges": others}))
    assert not np.array_equal(fuser(stack).image, before)
    path.with_suffix(".json").write_text(json.dumps(card))
    assert np.array_equal(fuser(stack).image, before)


def test_8_bits_are_refused_where_they_cannot_be_computed(monkeypatch: Any) -> None:
    monkeypatch.setattr(network_tiles, "multiplies_bytes", lambda: False)
    with pytest.raises(OptionError, match="precision='int8' needs a processor that adds up"):
        Srgan(precision="int8")
    with pytest.raises(OptionError, match=r"with device='cuda': .* choose device='cpu'"):
        network_tiles.resolve_precision("int8", "cuda")
    monkeypatch.setattr(network_tiles, "multiplies_bytes", lambda: True)
    monkeypatch.setattr(int8_layers, "byte_convolution", lambda: None)
    with pytest.raises(OptionError, match="precision='int8' needs a PyTorch with oneDNN"):
        Srgan(precision="int8")


def test_the_image_is_what_the_network_makes_of_its_tiles() -> None:
    """One tile, by hand: planes and masks in [0, 1] go in, the image comes out, times 255."""
    stack = random_stack(3, 3, 32, 32)
    fused = Focusgan(**settings_of("focusgan-3", precision="float32", grain=0))(stack)
    network = weights.load(path_of("focusgan-3")).network
    blur_model: Any = weights.load(path_of("blur")).network
    planes = torch.from_numpy(stack / np.float32(255))
    with torch.inference_mode():
        image = network(planes[None], blur_model.blurred(planes)[None])[0].numpy()
    assert np.abs(image - planes[1].numpy()).max() > 0.01, "it does something"
    np.testing.assert_allclose(fused.image, image * 255, atol=0.501)


def test_the_masks_that_the_generator_got_are_kept() -> None:
    """Of every plane given, blended like the image; the image is the same with and without."""
    blur_model: Any = weights.load(path_of("blur")).network
    for count, channels in ((1, 3), (2, 3), (3, 3), (2, 2)):
        options = settings_of(f"focusgan-{1 if count == 1 else 3}", precision="float32")
        stack = random_stack(count, channels, 32, 32)
        fused = Focusgan(keep_masks=True, **options)(stack)
        assert list(fused.maps) == ["blur"] and fused.maps["blur"].dtype == np.uint8
        assert np.array_equal(fused.image, Focusgan(**options)(stack).image)
        planes = torch.from_numpy(stack / np.float32(255))
        colours = (
            [planes] if channels == 3 else [p[:, None].repeat(1, 3, 1, 1) for p in planes.unbind(1)]
        )
        with torch.inference_mode():
            expected = torch.stack([blur_model.blurred(colour) for colour in colours]).mean(0)
        assert expected.numpy().std() > 0.01, "it says something"
        np.testing.assert_allclose(fused.maps["blur"], expected * 255, atol=0.501)
    assert not Focusgan(**options)(stack).maps


def test_keeping_masks_without_any_is_refused() -> None:
    with pytest.raises(OptionError, match=r"keep_masks=True with blur_mask=False"):
        Focusgan(keep_masks=True, blur_mask=False)
    for other in ("lpp", "srgan"):
        with pytest.raises(OptionError, match=f"{other}.*keep_masks"):
            sf.fuse(random_stack(3, 1, 32, 32), other, keep_masks=True)


def test_two_planes_are_given_as_a_b_b() -> None:
    fuser = Focusgan(**settings_of("focusgan-3", grain=0.0))
    stack = random_stack(2, 3, 40, 40)
    assert np.array_equal(fuser(stack).image, fuser(stack[[0, 1, 1]]).image)


def test_gray_is_repeated_and_averaged() -> None:
    fuser = Focusgan(**settings_of("focusgan-1", precision="float32"))
    gray = random_stack(1, 1, 50, 40, dtype="float32")
    rgb = fuser(gray.repeat(3, axis=1)).image
    np.testing.assert_allclose(fuser(gray).image[0], rgb.mean(axis=0), atol=1e-6)
    two = np.concatenate([gray, gray[..., ::-1]], axis=1)
    np.testing.assert_allclose(fuser(two).image[0], rgb.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 77), (70, 1), (33, 32)])
def test_any_size(shape: tuple[int, int]) -> None:
    stack = random_stack(1, 3, *shape)
    fused = fuse_array(Focusgan(**settings_of("focusgan-1")), stack.transpose(1, 0, 2, 3))
    assert fused.image.shape == stack.shape[1:]
    assert np.abs(fused.image - stack[0].astype(float)).max() < 128, "near its plane"


def test_padding_to_the_grid_does_not_reach_the_network() -> None:
    """The slide ends where it ends: what the engine repeats below it is not what tiles see."""
    stack = random_stack(1, 3, 41, 29)
    fuser = Focusgan(**settings_of("focusgan-1"))
    cut = fuse_array(fuser, stack.transpose(1, 0, 2, 3), 16).image
    assert np.abs(cut - fuser(stack).image.astype(int)).max() <= 1


def overview_of(dtype: str, brightest: float) -> MemoryOverview:
    values = np.linspace(0, brightest, 1000).reshape(1, 1, 20, 50).astype(dtype)
    return MemoryOverview(values, values[None])


@pytest.mark.parametrize(
    ("dtype", "brightest", "white"),
    [
        ("uint8", 100, None),
        ("uint16", 60000, 65535),
        ("uint16", 4095, 4095),
        ("float32", 0.9, 1),
        ("float32", 255, 255),
        ("float32", 0.25, 0.25),
        ("float32", 0, 1),
    ],
)
def test_white(dtype: str, brightest: float, white: float | None) -> None:
    fuser = Focusgan(**settings_of("focusgan-1")).prepare(overview_of(dtype, brightest))
    assert fuser.white == (None if white is None else pytest.approx(white, rel=2e-3))
    given = Focusgan(**settings_of("focusgan-1", white=7.0))
    assert given.prepare(overview_of(dtype, brightest)).white == 7.0


@pytest.mark.parametrize("what", [slice(5, 6), slice(None)])
def test_what_is_not_finite_is_refused_where_it_is(what: slice) -> None:
    stack = random_stack(1, 3, 40, 40, dtype="float32").swapaxes(0, 1)
    stack[0, 0, what] = np.nan
    with pytest.raises(StackError, match=r"index 0 .* holds \d+ values that are NaN"):
        sf.fuse(stack, "focusgan", **settings_of("focusgan-1")).compute()


def test_white_is_a_scale() -> None:
    stack = random_stack(1, 3, 40, 40, dtype="float32")
    fuser = Focusgan(**settings_of("focusgan-1", white=1.0))
    scaled = Focusgan(**settings_of("focusgan-1", white=4095.0))
    expected = np.rint(fuser(np.rint(stack * 4095) / np.float32(4095)).image * 4095)
    found = scaled(np.rint(stack * 4095).astype(np.uint16)).image
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_what_is_brighter_than_white_or_below_zero_is_put_back(planes: int, dtype: str) -> None:
    fuser = Focusgan(**settings_of(f"focusgan-{planes}", white=1000.0, grain=0.0, noise=0.0))
    inside = random_stack(planes, 3, 64, 64).astype(dtype) * 2  # 0 to 510
    stack = inside.copy()
    stack[:, :, 20:24, 30:34] = 1000
    usual = fuser(stack).image.astype(np.float64)
    stack[0, :, 20:24, 30:34] = 3000
    bright = fuser(stack).image.astype(np.float64)
    assert np.abs(bright[:, 20:24, 30:34] - usual[:, 20:24, 30:34] - 2000).max() <= 1
    assert np.array_equal(np.delete(bright, np.s_[20:24], 1), np.delete(usual, np.s_[20:24], 1))
    if dtype == "float32":
        stack[:, :, 5, 5] = 0
        usual = fuser(stack).image
        stack[:, :, 5, 5] = -300
        assert np.allclose(fuser(stack).image[:, 5, 5], usual[:, 5, 5] - 300, atol=0.1)


@pytest.mark.parametrize(
    ("noise", "grain", "one", "three"),
    [(0.5, None, 1.0, 1.0), (4.0, None, 1 / 3, 0.0), (0.5, 0.2, 0.2, 0.2), (4.0, 1.0, 1.0, 1.0)],
)
def test_grain_follows_from_the_noise_of_the_slide(
    noise: float, grain: float | None, one: float, three: float
) -> None:
    patches = np.random.default_rng(6).normal(200, noise, (4, 1, 3, 64, 64)).round()
    seen = MemoryOverview(patches[0].astype(np.uint8), patches.astype(np.uint8))
    fuser = Focusgan(**settings_of("focusgan-1", grain=grain)).prepare(seen)
    assert (fuser._grain_of(1), fuser._grain_of(3)) == (one, three)


def test_noise_of_uint8_is_measured_against_255_whatever_white_is_given() -> None:
    glass = np.random.default_rng(0).normal(200, 6, (1, 3, 128, 128)).astype(np.uint8)
    found = [
        Focusgan(**settings_of("focusgan-1", white=white))
        .prepare(MemoryOverview(glass, glass[None]))
        .noise
        for white in (None, 4095.0)
    ]
    assert found[0] == found[1] > 0.01


@pytest.mark.parametrize(("grain", "noise"), [(0.4, 0.1), (None, 0.002), (None, 0.02)])
def test_detail_of_several_planes_is_that_of_their_fusion(
    grain: float | None, noise: float
) -> None:
    stack = random_stack(3, 3, 32, 32, dtype="float32")
    made, kept = (
        Srgan(**settings_of("srgan-3", grain=share, noise=noise))(stack).image
        for share in (0.0, grain)
    )
    share = grain if grain is not None else float(noise < 0.01)
    transform = Dtcwt(background="fuse") if share else Lpp(background="fuse")
    source, image = (torch.from_numpy(i[None]) for i in (transform(stack).image, made))
    expected = keep_grain(source, image, noise, share, 1.0, fused=True)
    np.testing.assert_allclose(kept, expected[0].numpy(), atol=1e-5)
    assert np.abs(kept - made).max() > 0.003


def test_no_detail_of_planes_where_they_are_blurred() -> None:
    blur_model: Any = weights.load(path_of("blur")).network
    for planes in (1, 3):
        stack = random_stack(planes, 3, 32, 32, dtype="float32")
        made, kept = (
            Focusgan(**settings_of(f"focusgan-{planes}", grain=grain, noise=0.05))
            for grain in (0.0, 0.4)
        )
        with torch.inference_mode():
            sharp = 1 - blur_model.blurred(torch.from_numpy(stack)).amin(dim=0)[None, None]
        source = stack if planes == 1 else Dtcwt(background="fuse")(stack).image[None]
        given = torch.from_numpy(source), torch.from_numpy(made(stack).image[None])
        share = 0.4 * sharp if planes == 1 else 0.4
        expected = keep_grain(*given, 0.05, share, sharp, fused=planes > 1)
        np.testing.assert_allclose(kept(stack).image, expected[0].numpy(), atol=3e-3)
        everywhere = keep_grain(*given, 0.05, 0.4, 1.0, fused=planes > 1)
        assert not torch.allclose(expected, everywhere, atol=1e-2)


class Watched(ArraySource):
    """Notes which windows are read."""

    def read(self, z: int, window: Window, /) -> Any:
        READ.append(window)
        return super().read(z, window)


READ: list[Window] = []


def test_only_what_the_region_needs_is_read_and_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 px tiles every 24: rows 100 to 130 lie in those that begin at 72, 96 and 120."""
    fuser = Focusgan(**settings_of("focusgan-1"))
    source = Watched(random_stack(3, 1, 300, 300))
    READ.clear()
    tiles: list[int] = []
    made = Focusgan._compute

    def counted(self: Focusgan, planes: int) -> Any:
        compute = made(self, planes)
        return lambda batch: tiles.append(len(batch)) or compute(batch)

    monkeypatch.setattr(Focusgan, "_compute", counted)
    tiling = Tiling(Size(300, 300), 30, fuser.footprint, Window(100, 100, 30, 30))
    fuse_region(fuser, source, [0], tiling, tiling.region(0, 0))
    assert sum(tiles) == 9
    assert [Window(72 + 24 * k, 72, 32, 80) for k in range(3)] == READ


def test_fuse_as_users_call_it(tmp_path: Path) -> None:
    stack = random_stack(3, 3, 90, 70)
    options = settings_of("focusgan-3")
    lazy = sf.fuse(stack, "focusgan", chunks=40, **options)
    provenance = lazy.attrs["slidefusion"]["options"]
    assert provenance["sha256"][0] == weights.look_up(path_of("focusgan-3")).sha256
    out = tmp_path / "fused.zarr"
    sf.fuse(stack, "focusgan", out=out, chunks=64, progress=False, **options)
    written = sf.open_slide(out).values
    assert np.abs(written.astype(int) - lazy.values).max() <= 1


def test_what_does_not_fit_is_refused() -> None:
    one, three = random_stack(1, 3, 32, 32), random_stack(3, 3, 32, 32)
    with pytest.raises(OptionError, match="at most 16"):
        Focusgan(**settings_of("focusgan-1", overlap=17))
    with pytest.raises(OptionError, match="multiples of 16 px; choose tile=32 or 48"):
        Focusgan(**settings_of("focusgan-1", tile=40))(one)
    with pytest.raises(WeightsError, match="take 1 plane, and 3 are needed"):
        Focusgan(**settings_of("focusgan-1"))(three)
    with pytest.raises(WeightsError, match="are for 'srgan'"):
        Focusgan(**settings_of("srgan-1"))(one)
    with pytest.raises(WeightsError, match="without blur masks: choose blur_mask=False"):
        Focusgan(**settings_of("focusgan-3-False"))(three)
    lazily = one.transpose(1, 0, 2, 3)
    with pytest.raises(UnknownNameError, match="no weights 'focusgn-1'"):
        sf.fuse(lazily, "focusgan", weights="focusgn-1")
    with pytest.raises(WeightsError, match="are for 'srgan'"):
        sf.fuse(lazily, "focusgan", weights=path_of("srgan-1"))
    with pytest.raises(WeightsError, match="are for 'srgan'"):
        sf.fuse(three.transpose(1, 0, 2, 3), "cnn", weights=path_of("srgan-1"))
    with pytest.raises(WeightsError, match="install the same weights everywhere"):
        Focusgan(**settings_of("focusgan-1", sha256=("0" * 64,)))(one)


def test_weights_are_chosen_by_planes_and_masks() -> None:
    assert Focusgan()._reference(1) == "focusgan-1"
    assert Focusgan(blur_mask=False)._reference(3) == "focusgan-3-nomask"
    assert Srgan()._reference(3) == "srgan-3"
    assert Focusgan(weights="mine:auto")._reference(1) == "mine:focusgan-1"
    assert Focusgan(weights="mine:auto", blur_mask=False)._reference(3) == "mine:focusgan-3-nomask"
    assert Focusgan(weights="mine:sharp")._reference(3) == "mine:sharp"


def test_a_tile_that_fails_ends_the_call() -> None:
    def refuse(tiles: torch.Tensor) -> torch.Tensor:
        raise MemoryError("no room for a tile")

    with pytest.raises(MemoryError, match="no room"):
        network_tiles.fuse_tiles(
            random_stack(1, 3, 64, 64), refuse, tile=32, overlap=8, batch=1, device="cpu", white=255
        )


def test_the_number_of_threads_changes_nothing() -> None:
    stack, fuser = random_stack(1, 3, 100, 90), Focusgan(**settings_of("focusgan-1"))
    before = torch.get_num_threads()
    images = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        images.append(fuser(stack).image)
    torch.set_num_threads(before)
    assert np.array_equal(*images)


def test_large_regions_where_the_halo_is_large() -> None:
    size = Size(20000, 20000)
    fuser = Focusgan(weights=path_of("focusgan-1"), precision="bfloat16")
    assert memory.choose_region_px(fuser, size, 1, 3, 1, 2) >= 2048
