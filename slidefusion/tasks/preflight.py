"""Every worker is asked, before the first task is sent, whether it can do the work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slidefusion.errors import PluginError, ProcessingError, ReaderError, UnknownNameError
from slidefusion.tasks.pools import scheduler_gone
from slidefusion.tasks.reach import stamps_of
from slidefusion.tasks.requirements import BYTES_DEPEND_ON, Requirement
from slidefusion.tasks.shipping import pickled, short

__all__ = ["check_workers", "check_workers_reach", "check_workers_see", "needs_of_all"]

_LARGE_BYTES = 2**20


def needs_of_all(
    client: Any | None,
    distributions: Iterable[str],
    files: Iterable[str | Path],
    job: Any,
    urls: Iterable[str] = (),
) -> Requirement | None:
    """What this process has and every worker must have, too; they are asked (``check_workers``).

    None without a cluster. ``distributions`` are those beside what the bytes of every output depend
    on, ``files`` the local paths that are read, ``urls`` the stores (``check_workers_reach``).
    """
    if client is None:
        return None
    needs = Requirement.here([*BYTES_DEPEND_ON, *distributions], files)
    check_workers_reach(client, urls)  # first, since loading the job may open them
    check_workers(client, needs, job)
    return needs


def check_workers(client: Any, needs: Requirement, job: Any) -> None:
    """Ask all workers for the same software and the same input, and to load the job.

    ``job`` is whatever the tasks will share: loading it imports the fuser and the reader.

    Raises
    ------
    PluginError
        Naming the worker and both versions, or what it cannot import; or when the job cannot be
        pickled.
    ProcessingError
        When a worker does not see an input.
    """
    payload = pickled(job)
    if len(payload) > _LARGE_BYTES:  # an array in memory; it is sent once, and loaded, later
        payload = b""
    answers = _ask(client, _inspect, needs, payload)
    for worker, (software, files) in answers.items():
        if software:
            raise PluginError(
                f"worker {worker} {'; '.join(software)}: install the same there as here, then run "
                "again"
            )
        if files:
            raise ProcessingError(
                f"worker {worker} {'; '.join(files)}: mount it there at the same path, give the "
                "worker the credentials that this process has, or give an input that all reach"
            )


def check_workers_see(client: Any, paths: Iterable[str | Path]) -> None:
    """Ask all workers whether they see these files, which this process has just made.

    Raises
    ------
    ProcessingError
        When one does not, or may not write beside them.
    """
    wanted = [str(path) for path in paths]
    for worker, missing in (_ask(client, _unseen, wanted) if wanted else {}).items():
        if missing:
            raise ProcessingError(
                f"worker {worker} cannot write to {missing[0]}: the output must lie where all "
                "workers see it at the same path (a shared file system), or in an object store"
            )


def check_workers_reach(client: Any, urls: Iterable[str]) -> None:
    """Ask all workers whether they see at these URLs what this process sees there.

    One small object of each store is read, and nothing listed. What does not answer for a while is
    asked again, as in tasks. Where this process itself may not read that object, nothing is asked.

    Raises
    ------
    ProcessingError
        When a worker does not.
    """
    here = {url: stamp for url, (stamp, _) in stamps_of(list(urls)).items() if stamp is not None}
    if not here:
        return
    for worker, found in _ask(client, _stamps_there, list(here)).items():
        for url, (stamp, error) in found.items():
            if stamp is None:
                raise ProcessingError(
                    f"worker {worker} cannot reach {url}: {error}; give it the credentials, the "
                    "settings and the network that this process has (environment variables stay "
                    "here: set them where the worker is started), then run again"
                )
            if stamp != here[url]:
                raise ProcessingError(f"worker {worker} {_difference(url)}")


def _difference(url: str) -> str:
    if url.partition("://")[0].rpartition("::")[2] == "memory":
        return (
            f"does not see {url}: memory:// is only in this process; give a place that all workers "
            "reach, or run without a cluster"
        )
    return (
        f"does not see at {url} what this process sees there: let both ask the same server "
        "(AWS_ENDPOINT_URL, say), then run again"
    )


async def _stamps_there(urls: list[str]) -> dict[str, tuple[str | None, str]]:
    """On a worker: as `stamps_of`, in another thread than the one that answers the scheduler."""
    return await asyncio.to_thread(stamps_of, urls)


def _ask(client: Any, function: Any, *arguments: Any) -> dict[str, Any]:
    """The answers by worker; an answer that is an error is raised."""
    try:
        answers: dict[str, Any] = client.run(function, *arguments, on_error="return")
    except Exception as error:
        if client.status != "running":
            raise scheduler_gone(client) from error
        raise ProcessingError(f"the workers cannot be asked: {short(error)}") from error
    found = {}
    for worker, answer in answers.items():
        if isinstance(answer, OSError):  # it ended meanwhile; those that come later are asked again
            continue
        if isinstance(answer, BaseException):
            raise PluginError(
                f"worker {worker} cannot be asked what it has installed "
                f"({type(answer).__name__}: {answer}): install there the same slidefusion as here"
            )
        found[worker] = answer
    return found


def _inspect(needs: Requirement, job: bytes) -> tuple[list[str], list[str]]:
    """On a worker: what is wrong with its software, and which files it does not see."""
    from distributed.protocol.pickle import loads

    problems, unseen = needs.problems(), needs.missing_files()
    if not problems and job:
        try:
            loads(job)
        except (ReaderError, UnknownNameError) as error:  # without credentials for it, say
            unseen = unseen or [f"cannot open the input ({error})"]
        except Exception as error:
            problems = [f"cannot load the fuser or reader ({type(error).__name__}: {error})"]
    return problems, unseen


def _unseen(paths: list[str]) -> list[str]:
    """On a worker: the folders of these files that it does not see or may not write to."""
    return [
        str(Path(path).parent)
        for path in paths
        if not Path(path).is_file() or not os.access(Path(path).parent, os.W_OK)
    ]
