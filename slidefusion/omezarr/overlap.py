"""Whether an output would damage an input, however their places are spelt."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from slidefusion.errors import PlaceError
from slidefusion.files import is_zarr
from slidefusion.omezarr.store import is_url, location

__all__ = ["one_name", "refuse_overlap"]


def one_name(place: str | os.PathLike[str]) -> str:
    """The one name of a place that may be spelt in several ways; nothing is connected to.

    A local path without links, or a URL with the first name of its kind, its host where its
    paths do not begin with it, and a path without empty parts, ``.`` and ``..``. A server under two
    addresses, or a bucket that is reached by S3 and by HTTP, keeps a name for each.

    >>> one_name("s3a://bucket//slides/./x/../a.zarr/"), one_name("memory:///a.zarr")
    ('s3://bucket/slides/a.zarr', 'memory://a.zarr')
    """
    text = os.fspath(place)
    if not is_url(text):
        return os.path.realpath(location(text))
    # Of a chain, ``zip://inside::s3://bucket/a.zip``, the last link is where it lies; a link
    # without a path, as of ``simplecache::s3://bucket/a.zarr``, only changes how that is read.
    *inner, outer = text.split("::")
    below = [path for _, separator, path in (link.partition("://") for link in inner) if separator]
    root = _plain_url(outer) if "://" in outer else os.path.realpath(outer)
    return posixpath.join(root, *(path.strip("/") for path in reversed(below) if path))


def _plain_url(url: str) -> str:
    from fsspec import get_filesystem_class

    protocol, _, path = url.partition("://")
    host = ""
    try:
        kind = get_filesystem_class(protocol)
        stripped = kind._strip_protocol(url)
        known = kind._get_kwargs_from_urls(url)
    except Exception:  # its package is not installed, or it is no such URL: then nothing opens it
        pass
    else:
        names = (kind.protocol,) if isinstance(kind.protocol, str) else tuple(kind.protocol)
        protocol = names[0]
        if "file" in names:
            return str(os.path.realpath(stripped))
        path = stripped
        if {"http", "https"} & {*names}:  # its paths are whole URLs, with what signs a request
            protocol, parts = "http", urlsplit(stripped)
            path = parts.netloc.rpartition("@")[2] + parts.path
        host = str(known.get("host") or known.get("account_name") or "")
        if known.get("port"):
            host += f":{known['port']}"
    path = posixpath.normpath(f"/{path}".replace("//", "/")).lstrip("/")
    return f"{protocol}://{posixpath.join(host, path)}"


def refuse_overlap(where: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise ``PlaceError`` if an output at ``where`` would lie at, above or inside an input."""
    ours = one_name(where)
    for given in inputs:
        theirs = one_name(given)
        same, above = ours == theirs, _lies_in(theirs, ours)
        # A folder of images may hold its own result; a Zarr store must stay as it is.
        inside = _lies_in(ours, theirs) and (is_url(theirs) or is_zarr(theirs))
        if same or above or inside:
            relation = "is" if same else "contains" if above else "lies inside"
            raise PlaceError(
                f"the output {where} {relation} the input {given}; writing there would damage "
                "it: choose an output elsewhere"
            )


def _lies_in(name: str, folder: str) -> bool:
    if is_url(name) or is_url(folder):
        return name.startswith(f"{folder.rstrip('/')}/")
    return Path(folder) in Path(name).parents
