"""The images of an output, and what its groups and arrays below the root say of themselves.

That is known before anything is written: so it can be told from what was damaged, and written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from slidefusion.omezarr.members import made_group
from slidefusion.omezarr.metadata import multiscales
from slidefusion.omezarr.pyramid import PyramidLayout
from slidefusion.omezarr.record import digest_of, digest_of_root
from slidefusion.omezarr.rendering import with_windows, without_windows
from slidefusion.omezarr.store import codec_pipeline
from slidefusion.omezarr.version import NGFF_VERSION

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

__all__ = ["ImageSpec", "digests_of", "labels_in", "metadata_below", "same_pixels"]

_IN_MEMORY = "memory://"
_DECIDING = (
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"),
    *("codecs", "fill_value"),
)
"""What the pixels of an array depend on."""


@dataclass(frozen=True)
class ImageSpec:
    """One image of an output: its arrays and what its group says of it."""

    name: str
    """Path of the image group in the store; ``""`` is the root, ``"labels/depth"`` a label."""
    layout: PyramidLayout
    pixel_size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    z_start_um: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)
    """(y, x) place of the first pixel, as in `multiscales`."""
    blocks: Mapping[str, Any] = field(default_factory=dict)
    """Further NGFF blocks: ``omero``, ``image-label``."""
    rgb: bool = False
    """Whether the channels are red, green and blue of one colour picture."""

    @property
    def arrays(self) -> list[str]:
        """Paths of its arrays in the store, level 0 first."""
        return [f"{self.name}/{level}".lstrip("/") for level in range(self.layout.levels)]

    def ome(self, title: str) -> dict[str, Any]:
        """The ``ome`` attribute of the group."""
        return {
            "version": NGFF_VERSION,
            "multiscales": multiscales(
                self.layout.axes,
                self.layout.levels,
                pixel_size_um=self.pixel_size_um,
                z_step_um=self.z_step_um,
                z_start_um=self.z_start_um,
                origin=self.origin,
                name=title,
                method=self.layout.method,
            ),
            **self.blocks,
        }

    def of_output(self, token: str) -> ImageSpec:
        """The image with arrays that are not taken for those of an earlier output at its place."""
        return replace(self, layout=replace(self.layout, token=token))

    def with_windows(self, where: str) -> ImageSpec:
        """The image with windows for channels that have none, by what is written at ``where``."""
        block = self.blocks.get("omero")
        if block is None or not without_windows(block):
            return self
        shown = with_windows(block, self.layout.overview(where, self.name), rgb=self.rgb)
        return replace(self, blocks={**self.blocks, "omero": shown})


def metadata_below(
    images: Sequence[ImageSpec], *, finished: bool, others: Iterable[str] = ()
) -> dict[str, bytes]:
    """The ``zarr.json`` of every group and array below the root, by the path of what it describes.

    Groups say what image they are when the output is ``finished``; ``others`` are labels that
    somebody added to its own, which stay listed.
    """
    import zarr

    texts: dict[str, Buffer] = {}
    with codec_pipeline(_IN_MEMORY):
        root = zarr.create_group(zarr.storage.MemoryStore(texts))
        for image in images:
            group = made_group(root, image.name)
            image.layout.create(group, _IN_MEMORY)
            if finished and image.name:
                group.attrs["ome"] = image.ome(image.name.rpartition("/")[2])
        labels = [i.name.partition("/")[2] for i in images if i.name.startswith("labels/")]
        labels += [name for name in others if labels and name not in labels]
        if finished and labels:
            made_group(root, "labels").attrs["ome"] = {"version": NGFF_VERSION, "labels": labels}
    return {
        name.removesuffix("/zarr.json"): text.to_bytes()
        for name, text in texts.items()
        if name != "zarr.json"
    }


def same_pixels(wanted: Any, found: Any) -> bool:
    """Whether what two ``zarr.json`` say makes the same pixels of the same files."""
    return all(found.get(key) == wanted.get(key) for key in _DECIDING)


def digests_of(below: Mapping[str, bytes], root: Mapping[str, Any]) -> dict[str, str]:
    """Digests of all metadata, by the path of what they describe; ``""`` is the root.

    Not of the list of labels, to which anybody may add.
    """
    digests = {name: digest_of(json.loads(text)) for name, text in below.items()}
    digests.pop("labels", None)
    return {"": digest_of_root(root), **digests}


def labels_in(text: bytes) -> list[str]:
    """The labels that the metadata of the group ``labels`` lists."""
    return list(json.loads(text)["attributes"]["ome"]["labels"])
