"""What only Linux has is not needed: there are Windows and macOS, too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slidefusion.omezarr import lock

WITHOUT_UNIX = """
import os, sys
import psutil, torch  # which ask for some of it themselves, where it is
sys.modules["resource"] = sys.modules["fcntl"] = None
for name in ("sysconf", "sched_getaffinity", "register_at_fork", "kill", "fork"):
    delattr(os, name)
os.process_cpu_count = os.cpu_count  # as it is there
import numpy as np
import slidefusion as sf

if __name__ == "__main__":
    stack = np.random.default_rng(0).integers(0, 255, (3, 3, 90, 70), np.uint8)
    for fuser in ("lpp", "srgan"):
        out = f"{sys.argv[1]}/{fuser}.zarr"
        sf.fuse(stack, fuser, out=out, chunks=64, progress=False)
        assert np.array_equal(sf.open_slide(out), sf.fuse(stack, fuser, progress=False)), fuser
        assert not sf.verify(out)
"""


def test_a_run_needs_nothing_of_unix(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_UNIX, str(tmp_path)], check=True)


def test_a_process_is_known_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "Path", lambda text: Path(f"/nowhere{text}"))
    monkeypatch.delattr(os, "kill")  # which ends the process on Windows
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = lock._started(process.pid)
        time.sleep(0.01)
        assert began is not None and lock._started(process.pid) == began
        process.communicate(b"\n")
    assert lock._started(process.pid) is None
