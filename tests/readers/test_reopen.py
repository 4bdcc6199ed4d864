"""Readers in the processes of a cluster, where their copies are kept from task to task."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import tifffile

from slidefusion.geometry import Window
from slidefusion.readers import open_reader

PART = Window(0, 0, 4, 4)


def test_a_file_that_was_replaced_is_not_mistaken_for_the_old_one(tmp_path: Path) -> None:
    path, seen = tmp_path / "stack.tif", []
    for value in (10, 99):
        path.unlink(missing_ok=True)
        tifffile.imwrite(path, np.full((2, 32, 32), value, np.uint8), metadata={"axes": "ZYX"})
        reader = open_reader(str(path))
        one, other = (pickle.loads(pickle.dumps(reader)) for _ in range(2))
        assert one is other  # opened once a process
        seen.append(int(one.read(0, PART).mean()))
    assert seen == [10, 99]
