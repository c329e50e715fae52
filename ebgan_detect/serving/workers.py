"""Threads that each own one connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ebgan_detect.errors import ServerError
from ebgan_detect.serving.link import Link

__all__ = ["Workers"]

T = TypeVar("T")


class Workers:
    """A few threads that do tasks with a link of their own.

    Unlike those of an executor, a thread here closes what it opened, and keeps no process from
    ending.

    Parameters
    ----------
    limit : int
        Most threads.
    connect : callable
        Makes a link.
    """

    def __init__(self, limit: int, connect: Callable[[], Link]) -> None:
        self.limit = limit
        self._connect = connect
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[Link], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False
        self._lock = threading.Lock()

    def submit(self, task: Callable[[Link], T]) -> Future[T]:
        """Have a task done by the next free thread.

        Parameters
        ----------
        task : callable
            Takes the thread's link.

        Returns
        -------
        Future
            What the task will return.

        Raises
        ------
        ServerError
            If the threads have been told to end.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise ServerError("the connections were closed during the call; call again")
            self._unfinished += 1
            if len(self._threads) < min(self._unfinished, self.limit):
                thread = threading.Thread(target=self._work, name="ebgan-detect", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._tasks.put((future, task))
        return future

    def close(self, *, wait: bool = True) -> None:
        """Let the threads finish the tasks that they have, close their links and end.

        No further task is taken, so that a call under way fails.

        Parameters
        ----------
        wait : bool, default=True
            Whether to wait until they have.
        """
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
            for _ in threads:
                self._tasks.put(None)
        for thread in threads if wait else ():
            thread.join()

    def _work(self) -> None:
        """Do tasks until there is an end of them."""
        link = self._connect()
        try:
            while (entry := self._tasks.get()) is not None:
                future, task = entry
                if future.set_running_or_notify_cancel():
                    try:
                        result = task(link)
                    except BaseException as error:
                        future.set_exception(error)
                    else:
                        future.set_result(result)
                del entry, future, task
                with self._lock:
                    self._unfinished -= 1
        finally:
            link.close()
