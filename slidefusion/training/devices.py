"""Training on several devices: a process for each, started and ended together from here.

The processes are children of the one that calls; it computes nothing itself, so it can always end
them: when one fails, when the user presses Ctrl-C, and (they notice) when it is killed. They get
what they need by value, and are numbered as Lightning Fabric and torch expect it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import connection, resource_tracker
from typing import Any

from slidefusion.errors import OptionError, ProcessingError, SlidefusionError

__all__ = ["count_devices", "in_processes"]

Report = Callable[..., None]


def count_devices(devices: int | str, accelerator: str) -> int:
    """How many devices ``devices`` (a number, or ``"auto"``) of ``"cpu"`` or ``"cuda"`` are.

    Raises
    ------
    OptionError
        It is neither, or there are not so many GPUs.

    >>> count_devices(2, "cpu"), count_devices("auto", "cpu")
    (2, 1)
    """
    import torch

    there = torch.cuda.device_count() if accelerator == "cuda" else None
    if devices == "auto":
        return there or 1
    try:
        count = int(devices)
    except ValueError:
        count = 0
    if count < 1:
        raise OptionError(f"devices={devices!r}: give a number, 1 or more, or 'auto'")
    if there is not None and count > there:
        raise OptionError(f"devices={count}: this machine has {there} GPUs; choose at most {there}")
    return count


def in_processes(
    count: int, function: Callable[[Any, Report], Any], argument: Any, on_report: Report
) -> Any:
    """What ``function(argument, report)`` returns in the first of ``count`` processes.

    All of them call it, with ``LOCAL_RANK`` from 0 on in their environment. What the first passes
    to ``report`` arrives at ``on_report``, here. Function, argument, reports and result are
    pickled; tensors by value, so processes share none.

    Raises
    ------
    ProcessingError
        One failed or died; the others were ended.
    SlidefusionError
        As one of them raised it.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise OptionError(
            "training on several devices starts Python anew for each, which runs this script "
            "again: put what it does under  if __name__ == '__main__':"
        )
    context = multiprocessing.get_context("spawn")
    job = pickle.dumps((function, argument))
    port = _free_port()
    processes: list[Any] = []
    lines: dict[Any, int] = {}
    try:
        with _interrupts_for_this_process_only():
            for rank in range(count):
                here, there = context.Pipe()
                lines[here] = rank
                process = context.Process(
                    target=_work, args=(rank, count, port, there), daemon=True
                )
                processes.append(process)
                process.start()
                there.close()  # so that the end of the process is the end of the line
        # Not as an argument: a process that died before it read that would be waited for for ever.
        for here in lines:
            with contextlib.suppress(OSError):  # dead already, as will be heard
                here.send_bytes(job)
        del job
        result = _listen(lines, count, on_report)
        for process in processes:
            process.join(30)
        return result
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _listen(lines: dict[Any, int], count: int, on_report: Report) -> Any:
    """Hear the processes until all are done; the result of the first."""
    result: bytes | None = None
    begun: set[int] = set()
    while lines:
        ready: list[Any] = connection.wait(list(lines))
        for line in ready:
            rank = lines[line]
            who = f"process {rank + 1} of {count}"
            try:
                kind, content = line.recv()
            except (EOFError, ConnectionError) as end:
                raise ProcessingError(
                    f"{who} of the training ended unexpectedly (killed, or out of memory?); run "
                    "it again to go on from the last checkpoint"
                    if rank in begun
                    else f"{who} of the training ended before it began: each starts Python anew, "
                    "which runs this script again. Put what the script does under  if __name__ == "
                    "'__main__':  (or see above what it wrote)"
                ) from end
            if kind == "begun":
                begun.add(rank)
            elif kind == "report":
                on_report(*content)
            elif kind == "failed":
                error, text = content
                if isinstance(error, SlidefusionError):
                    raise error
                last = text.strip().splitlines()[-1]
                raise ProcessingError(f"{who} of the training failed: {last}") from RuntimeError(
                    text
                )
            else:
                result = content if rank == 0 else result
                del lines[line]
    return None if result is None else pickle.loads(result)


def _work(rank: int, count: int, port: int, line: Any) -> None:
    """What a process does: the job that it is sent, and telling of it."""
    try:
        job = line.recv_bytes()
    except EOFError:
        os._exit(1)
    line.send(("begun", None))
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    os.environ.update(
        LOCAL_RANK=str(rank),
        NODE_RANK="0",
        WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    if rank:  # all warn of the same
        warnings.simplefilter("ignore")

    def report(*content: Any) -> None:
        if rank == 0:
            line.send(("report", content))

    try:
        function, argument = pickle.loads(job)
        result = function(argument, report)
        # Not as multiprocessing pickles tensors, in memory that ends with this process.
        line.send(("done", pickle.dumps(result) if rank == 0 else None))
    except Exception as error:
        known = error if isinstance(error, SlidefusionError) else None
        line.send(("failed", (known, traceback.format_exc())))


def _end_with_parent(line: Any) -> None:
    with contextlib.suppress(EOFError, OSError):
        line.recv()  # nothing ever comes
    os._exit(1)


@contextlib.contextmanager
def _interrupts_for_this_process_only() -> Iterator[None]:
    """Processes started in here leave Ctrl-C, which a terminal sends to all, to this one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
