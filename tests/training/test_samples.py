"""Crops: the same for the same step, from the right places, of planes equally far apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from slidefusion.errors import OutputError, StackError, UnknownNameError
from slidefusion.training.corpus import write_corpus
from slidefusion.training.samples import Crops, digest_of, open_pairs
from slidefusion.verbs.truths import beside


def test_a_step_always_gives_the_same_crops(corpus: list[Path]) -> None:
    first = Crops(open_pairs(corpus), planes=3, side_px=48, seed=5)
    again = Crops(open_pairs(corpus), planes=3, side_px=48, seed=5)
    for step in (0, 7):
        for one, other in zip(first.batch(step, 3), again.batch(step, 3), strict=True):
            assert np.array_equal(one, other)
    assert not np.array_equal(first.batch(0, 2)[1], first.batch(1, 2)[1])
    other_process = first.batch(0, 2, first=2)[1]
    assert not np.array_equal(first.batch(0, 2)[1], other_process)


def test_crops_are_pieces_of_the_stack_and_its_truth(corpus: list[Path]) -> None:
    import slidefusion as sf

    pairs = open_pairs(corpus[:1])
    planes, truth = Crops(pairs, planes=3, side_px=40).batch(3, 1)
    stack = np.asarray(sf.open_stack(corpus[0])).swapaxes(0, 1)  # z, c, y, x
    whole = np.asarray(sf.open_slide(str(corpus[0]).replace(".zarr", "-truth.zarr")))
    windows = np.lib.stride_tricks.sliding_window_view(whole[1], (40, 40))
    (y,), (x,) = np.where((windows == truth[0, 1]).all(axis=(2, 3)))
    assert np.array_equal(whole[:, y : y + 40, x : x + 40], truth[0])
    found = [
        z
        for plane in planes[0]
        for z in range(len(stack))
        if np.array_equal(stack[z, :, y : y + 40, x : x + 40], plane)
    ]
    assert len(found) == 3 and found[1] - found[0] == found[2] - found[1] >= 1


def test_planes_stay_within_the_spacing(corpus: list[Path]) -> None:
    (pair, _) = open_pairs(corpus)
    assert pair.z_step_um == pytest.approx(1.5)
    near = Crops([pair], planes=3, side_px=32, spacing_um=2.0)
    rng = np.random.default_rng(0)
    assert {tuple(np.diff(near._choose(pair, rng))) for _ in range(20)} == {(1, 1)}
    wide = Crops([pair], planes=3, side_px=32, spacing_um=3.0)
    assert {tuple(np.diff(wide._choose(pair, rng))) for _ in range(40)} == {(1, 1), (2, 2)}


def test_what_does_not_fit_is_refused(corpus: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StackError, match="has 5 planes, and 7 are asked for"):
        Crops(open_pairs(corpus), planes=7, side_px=32)
    with pytest.raises(StackError, match="is 128 x 128 px, too small"):
        Crops(open_pairs(corpus), side_px=256)
    with pytest.raises(UnknownNameError):
        open_pairs([tmp_path / "none.zarr"])
    alone = shutil.copytree(corpus[0], tmp_path / "alone.zarr")
    with pytest.raises(UnknownNameError, match=r"alone.zarr has no truth: .* --truth"):
        open_pairs([alone])
    with pytest.raises(StackError, match="no stacks"):
        open_pairs([])
    with pytest.raises(StackError, match="given twice"):
        open_pairs([corpus[0], f"{corpus[0]}/"])
    with pytest.raises(StackError, match="2 stacks but 1 truth:"):
        open_pairs(corpus, [corpus[0]])
    (other,) = write_corpus(tmp_path, 1, side_px=96, planes=1)
    with pytest.raises(StackError, match="is no truth for"):
        open_pairs(corpus[:1], [other])
    (gray,) = write_corpus(tmp_path / "gray", 1, side_px=128, planes=5, gray=True)
    with pytest.raises(StackError, match="with as many channels"):
        open_pairs([gray], [beside(corpus[0], "truth")])


def test_the_truth_of_another_slide_is_refused(corpus: list[Path]) -> None:
    truths = [beside(path, "truth") for path in corpus]
    assert len(open_pairs(corpus, truths)) == 2
    with pytest.raises(StackError, match=r"000.zarr.*like none of the planes .correlation -?0\."):
        open_pairs(corpus, truths[::-1])


def test_the_digest_knows_what_was_changed_in_place(corpus: list[Path], tmp_path: Path) -> None:
    for name in (corpus[0].name, Path(beside(corpus[0], "truth")).name):
        shutil.copytree(corpus[0].parent / name, tmp_path / name)
    stack = tmp_path / corpus[0].name
    assert digest_of(open_pairs([stack])) == digest_of(open_pairs(corpus[:1]))
    truth = zarr.open_group(beside(stack, "truth"), mode="r+")["0"]
    assert isinstance(truth, zarr.Array)
    truth[:] = np.asarray(truth[:]) // 2
    assert digest_of(open_pairs([stack])) != digest_of(open_pairs(corpus[:1]))


def test_a_corpus_goes_on_and_what_is_there_stays(tmp_path: Path) -> None:
    (first,) = write_corpus(tmp_path, 1, side_px=64, planes=3)
    times = {file: file.stat().st_mtime_ns for file in first.rglob("*") if file.is_file()}
    paths = write_corpus(tmp_path, 2, side_px=64, planes=3)
    assert paths[0] == first and len(open_pairs(paths)) == 2
    assert times == {file: file.stat().st_mtime_ns for file in first.rglob("*") if file.is_file()}
    with pytest.raises(OutputError, match="100000"):  # another phantom bears the name
        write_corpus(tmp_path, 1, side_px=96, planes=3)
