"""A ladder's rungs as tasks on a Ray cluster, one each; a task whose worker dies is started again by Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scalestop.errors import InputError
from scalestop.files import disk_trouble
from scalestop.ladder.store import Ladder
from scalestop.ladder.work import cannot_write, work

_RETRIES = 10
"""Times that Ray starts a rung again whose worker died; it goes on from its last checkpoint."""


def train_one(folder: str, rung: str) -> int:
    """Train one rung, as Ray's task.

    Returns:
        How many rungs raised: 0, or 1 for this one and 2 with its trunk.
    """
    return len(work(Ladder.load(folder), only=rung, stay=False))


class Ray:
    """Tasks of Ray Core.

    Args:
        parameters: Options of a task, such as `{"num_gpus": 1, "num_cpus": 4}`; `address` says which cluster: one that
            runs already if there is one, or else one on this machine, where it is left out.

    Raises:
        InputError: If ray is not installed.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("launcher: 'ray' needs ray; pip install scalestop[ray]") from None
        self._ray = ray
        self._options = dict(parameters)
        self._address = self._options.pop("address", None)
        self._tasks: list[Any] = []

    def submit(self, ladder: Ladder, workers: int) -> str:
        """Queue a task for each rung that is not done; Ray runs as many at once as fit, and no more than `workers`."""
        ray = self._ray
        try:
            if not ray.is_initialized():
                ray.init(address=self._address, num_cpus=None if self._address else workers, log_to_driver=False)
            options = {"num_cpus": 1, "max_retries": _RETRIES, **self._options}
            task = ray.remote(**options)(train_one)
            folder = str(ladder.folder.resolve())
            self._tasks = [task.options(name=r.name).remote(folder, r.name) for r in ladder.open_rungs()]
        except (ValueError, TypeError, ConnectionError, RuntimeError) as error:
            raise InputError(f"ray: {' '.join(str(error).split())[:400]}") from None
        return f"queued {len(self._tasks)} tasks on Ray"

    def wait(self, ladder: Ladder) -> None:
        """Wait for each task; one that Ray gave up leaves its rung for the next start."""
        left = list(self._tasks)
        while left:
            (done, *_), left = self._ray.wait(left)
            try:
                self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                if (trouble := disk_trouble(error.cause)) is not None or isinstance(error.cause, InputError):
                    raise cannot_write(ladder, trouble or str(error.cause)) from None
                raise
            except self._ray.exceptions.RayError:
                continue

    def cancel(self) -> None:
        """Cancel what is queued or runs."""
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        self._tasks = []
