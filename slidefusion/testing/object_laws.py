"""The laws of the fuser as an object: what it declares, and that it can be shipped to workers."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from slidefusion import registry
from slidefusion.fuser import Footprint, Fused, Fuser, PlaneRange, Planes, PreparingFuser
from slidefusion.testing.base import Case, ContractBase
from slidefusion.testing.stacks import LazyPlanes, overview

__all__ = ["ObjectLaws"]

MOST_PICKLED_BYTES = 64 * 1024
"""A fuser travels with every task; weights and kernels do not."""

SLACK_BYTES = 128 * 1024
"""Python's own objects, which no fuser needs to count: half a byte a pixel of the largest window
tried, so that no forgotten map hides in it."""

PLANES_IN_HAND = 2
"""Of a lazily read stack the engine itself counts the plane in hand and the one being read."""


class ObjectLaws(ContractBase):
    """Declarations, purity, shipping, memory."""

    def test_is_a_fuser(self, options: dict[str, Any]) -> None:
        """It has every attribute of the protocol, each of the right type."""
        fuser = self.make_fuser(**options)
        wanted = {
            "name": str,
            "planes": PlaneRange,
            "footprint": Footprint,
            "device": str,
        }
        for attribute, kind in wanted.items():
            value = getattr(fuser, attribute, None)
            if not isinstance(value, kind):
                self.fail(fuser, f"{attribute} is {value!r}; it must be a {kind.__name__}")
        if not isinstance(fuser, Fuser) or not callable(fuser):
            self.fail(fuser, "is no Fuser: it lacks working_bytes(...) or __call__(stack)")
        if not self.plane_counts(fuser):
            self.fail(fuser, f"takes {fuser.planes} planes; no stack has that many")
        needed = fuser.working_bytes(fuser.planes.min, 3, 512, 512)
        if not isinstance(needed, int) or needed < 0:
            self.fail(fuser, f"working_bytes gave {needed!r}; it must be a number of bytes (int)")

    def test_name_is_the_registered_one(self, options: dict[str, Any]) -> None:
        """If an entry point points to it, it gives an equal fuser, of the name it is listed by."""
        fuser = self.make_fuser(**options)
        kind = type(fuser)
        package = kind.__module__.partition(".")[0]
        entries = [
            plugin
            for plugin in registry.fusers()
            if plugin.target.partition(".")[0].partition(":")[0] == package
            and plugin.target.endswith(f":{kind.__qualname__}")
        ]
        if not entries:
            pytest.skip("no entry point of the group slidefusion.fusers points to this class")
        if fuser.name not in [plugin.name for plugin in entries]:
            self.fail(
                fuser,
                f"calls itself {fuser.name!r} but is registered as "
                f"{', '.join(repr(plugin.name) for plugin in entries)}; make them equal",
            )
        made = registry.get_fuser(f"{entries[0].distribution}:{fuser.name}", **options)
        if made != fuser:
            self.fail(fuser, f"is {made!r} when made by its registered name with these options")
        for info in registry.declared_options(kind):
            if not info.help:
                self.fail(fuser, f"option {info.name!r} has no help; declare it with option(...)")

    def test_options_survive_pickle_and_json(self, options: dict[str, Any]) -> None:
        """A copy made by pickle, or from its options as JSON, is equal and fuses equally."""
        fuser = self.ready_fuser(options)
        stack = self._stack(fuser, 40, 33)
        expected = fuser(stack)  # first, so that what it loads lazily is there to be pickled
        if type(fuser).__eq__ is object.__eq__:
            self.fail(fuser, "has no __eq__; make it a frozen dataclass of its options")
        try:
            pickled = pickle.dumps(fuser)
        except Exception as error:
            self.fail(
                fuser,
                f"cannot be pickled ({type(error).__name__}: {error}); keep weights and kernels "
                "out of the instance (a functools.cache on module level), and options simple",
            )
        if len(pickled) > MOST_PICKLED_BYTES:
            self.fail(
                fuser,
                f"pickles to {len(pickled)} bytes after a call (at most {MOST_PICKLED_BYTES}), and "
                "it travels with every task; load weights once a process instead",
            )
        self._same(fuser, pickle.loads(pickled), stack, expected, "pickled and unpickled")

        plain = self.make_fuser(**options)
        if dataclasses.is_dataclass(plain):
            if not type(plain).__dataclass_params__.frozen:
                self.fail(fuser, "is not immutable; write @dataclass(frozen=True)")
            given = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain) if f.init}
        else:
            given = dict(options)
        text = self._json(fuser, given, "its options are")
        again = self.make_fuser(**json.loads(text))
        if again != plain:
            self.fail(fuser, f"is {again!r} when made from its options as JSON, {text}")

    def test_input_is_untouched(self, options: dict[str, Any]) -> None:
        """It takes read-only planes and writes to no plane."""
        fuser = self.ready_fuser(options)
        for dtype in self.dtypes:
            stack = self._stack(fuser, 48, 37, dtype=dtype)
            writeable = stack.copy()
            expected = fuser(writeable)
            if not np.array_equal(stack, writeable):
                self.fail(
                    fuser, "wrote into its input; planes are shared with other tasks: copy first"
                )
            for planes, what in ((stack, "array"), (LazyPlanes(stack), "stack")):
                try:
                    fused = fuser(planes)
                except ValueError as error:
                    self.fail(
                        fuser,
                        f"fails on a read-only {what} of {dtype} ({error}); planes must not be "
                        "written to: copy first, and compile kernels for read-only arrays too",
                    )
                self._equal(fuser, fused, expected, f"on a read-only {what} read plane by plane")

    def test_calls_are_independent(self, options: dict[str, Any]) -> None:
        """A call gives the same result whatever was fused before, in this instance or another."""
        fuser = self.ready_fuser(options)
        first, other = self._stack(fuser, 50, 41), self._stack(fuser, 64, 70, seed=5)
        expected = fuser(first)
        kept = copy.deepcopy(expected)
        fuser(other)
        self._equal(fuser, expected, kept, "after another call: it reuses the memory it returned")
        self._equal(fuser, fuser(first), kept, "when called again after another stack")
        self._equal(fuser, self.ready_fuser(options)(first), kept, "in a new instance")

    def test_threads_do_not_interfere(self, options: dict[str, Any]) -> None:
        """Several threads that call one fuser at once get what one thread gets."""
        fuser = self.ready_fuser(options)
        stacks = [self._stack(fuser, 60 + 7 * k, 90 - 11 * k, seed=k) for k in range(4)]
        expected = [fuser(stack) for stack in stacks]
        start = threading.Barrier(len(stacks))

        def repeatedly(k: int) -> list[Fused]:
            start.wait()
            return [fuser(stacks[k]) for _ in range(3)]

        with ThreadPoolExecutor(len(stacks)) as pool:
            for k, results in enumerate(pool.map(repeatedly, range(len(stacks)))):
                for fused in results:
                    self._equal(
                        fuser, fused, expected[k], "from several threads at once: it shares buffers"
                    )

    def test_working_memory_is_within_the_bound(self, options: dict[str, Any]) -> None:
        """A call allocates at most ``working_bytes``, as far as Python's allocators see it.

        That is what NumPy allocates; compiled kernels and torch may allocate more unseen.
        """
        ready = self.ready_fusers(options)
        fuser = ready(max(self.channels))
        counts = self.plane_counts(fuser)
        for dtype in self.dtypes:
            fuser(self._stack(fuser, 32, 32, dtype=dtype))  # what loads once is no working memory
        for planes, channels, height, width, dtype in (
            (counts[-1], self.channels[-1], 421, 509, self.dtypes[-1]),
            (counts[0], self.channels[0], 509, 421, self.dtypes[0]),
            (counts[-1], self.channels[0], 33, 1100, self.dtypes[0]),
            (counts[0], self.channels[-1], 301, 97, self.dtypes[0]),
        ):
            fuser = ready(channels)
            stack = self.window(fuser, Case(3, planes, channels, height, width, dtype))
            declared = fuser.working_bytes(*stack.shape)
            for lazy in (False, True):
                in_hand = PLANES_IN_HAND * stack[0].nbytes if lazy else 0
                used = _peak_bytes(fuser, LazyPlanes(stack) if lazy else stack)
                if used > declared + in_hand + SLACK_BYTES:
                    self.fail(
                        fuser,
                        f"needs {used - in_hand} bytes for a stack {stack.shape} of {dtype}"
                        f"{', read one by one' if lazy else ''}, and working_bytes declares "
                        f"{declared}; count everything a call allocates, the result and all planes "
                        "it holds at once (np.asarray(stack) holds all) included",
                    )

    def test_prepare_freezes_what_it_learned(self, options: dict[str, Any]) -> None:
        """``prepare`` leaves the fuser as it is and returns an equal one for an equal overview."""
        fuser = self.make_fuser(**options)
        if not isinstance(fuser, PreparingFuser):
            pytest.skip("needs to know nothing of the whole slide: it has no prepare")
        before = pickle.dumps(fuser)
        seen = overview(self._stack(fuser, 64, 64))
        prepared, again = fuser.prepare(seen), fuser.prepare(seen)
        if pickle.dumps(fuser) != before:
            self.fail(fuser, "prepare changed the fuser; return a copy (dataclasses.replace)")
        if dataclasses.is_dataclass(prepared):
            self._json(fuser, dataclasses.asdict(prepared), "what prepare gave it is")
        if prepared != again or type(prepared) is not type(fuser):
            self.fail(
                fuser,
                f"prepare gave {prepared!r} and then {again!r} for the same overview; it must "
                "return an equal fuser of its own type, and use no random numbers",
            )

    def _stack(
        self, fuser: Fuser, height: int, width: int, *, seed: int = 2, dtype: str = ""
    ) -> npt.NDArray[Any]:
        """A window with as many planes and channels as are tried, read-only."""
        planes = self.plane_counts(fuser)[-1]
        dtype = dtype or self.dtypes[0]
        return self.window(fuser, Case(seed, planes, max(self.channels), height, width, dtype))

    def _json(self, fuser: Fuser, values: dict[str, Any], what: str) -> str:
        try:
            return json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            self.fail(
                fuser,
                f"{what} no JSON ({error}), so provenance cannot record it; use numbers, strings, "
                "booleans, None, and lists of them (of a NumPy number its .item())",
            )

    def _same(
        self, fuser: Fuser, copy: Any, stack: npt.NDArray[Any], expected: Fused, how: str
    ) -> None:
        if copy != fuser:
            self.fail(fuser, f"is {copy!r} when {how}; it must be equal")
        self._equal(fuser, copy(stack), expected, f"when {how}")

    def _equal(self, fuser: Fuser, fused: Fused, expected: Fused, how: str) -> None:
        same_depth = (
            fused.depth is None
            if expected.depth is None
            else fused.depth is not None and np.array_equal(fused.depth, expected.depth)
        )
        same_maps = fused.maps.keys() == expected.maps.keys() and all(
            np.array_equal(found, expected.maps[name]) for name, found in fused.maps.items()
        )
        if not (same_depth and same_maps and np.array_equal(fused.image, expected.image)):
            self.fail(
                fuser,
                f"gives another result {how}; keep no state between calls and allocate anew in "
                "each",
            )


def _peak_bytes(fuser: Fuser, stack: Planes) -> int:
    """Most memory that one call holds at once, beyond what there was before it."""
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        fuser(stack)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
