"""Runs in processes of their own: one that dies takes no other along, and its memory is its own.

They end with the command that began them, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from benchmarks.common import result_path
from benchmarks.images.protocols import Run

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_all(runs: Sequence[Run], results: Path, *, jobs: int, threads: int) -> list[str]:
    """Do what has no result yet; return what broke off, which leaves no result."""
    missing = [r for r in runs if not result_path(r.benchmark, r.settings, results).exists()]
    print(f"{len(runs)} runs, {len(runs) - len(missing)} of them done before", flush=True)
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)  # the new processes' libraries read it as they load
    problems = []
    bar = tqdm(total=len(missing), unit="run", mininterval=1)
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = [pool.submit(_in_own_process, run, results, threads) for run in missing]
        for future in as_completed(futures):
            finished, line = future.result()
            if not finished:
                problems.append(line)
            bar.write(f"{time.strftime('%H:%M:%S')} {line}")
            bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    return problems


def _in_own_process(run: Run, results: Path, threads: int) -> tuple[bool, str]:
    """Whether a run finished, and what to say of it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(run, results, threads, sender))
    process.start()
    sender.close()
    try:
        finished, line = receiver.recv()
    except EOFError:  # killed, for want of memory or by hand
        process.join()
        finished, line = False, f"{_name(run)}: the process ended with {process.exitcode}"
    process.join()
    return finished, line


def _work(run: Run, results: Path, threads: int, sender: Any) -> None:
    """One run, in its process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process of a terminal
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        told = True, in_words(run, run.once(results))
    except (Exception, SystemExit) as error:  # data that are not there end a script
        told = False, f"{_name(run)}: {type(error).__name__}: {error}"
    sender.send(told)


def _end_with_parent() -> None:
    """Wait until the process that began this one has ended, and end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _name(run: Run) -> str:
    """A run in a line of the log."""
    return " ".join([run.benchmark, *(str(value) for value in run.settings.values())])


def in_words(run: Run, result: dict[str, Any]) -> str:
    """A run and what came of it, in one line."""
    if "failed" in result:
        told = f"failed: {result['failed']}"
    elif "outliers" in result:
        told = ", ".join(f"{name} {v['auroc']:.3f}" for name, v in result["outliers"].items())
    else:
        told = f"AUROC {result['auroc']:.3f}, AUPRC {result['auprc']:.3f}"
    return f"{_name(run)}: {told} ({result['seconds']:.0f} s, {result['peak_rss_mib']} MiB)"
