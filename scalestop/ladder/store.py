"""A ladder's folder: what is planned, done and being done. Every file in it appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from scalestop.errors import InputError, shown
from scalestop.files import as_path, read_json, write_whole
from scalestop.ladder.claims import Claim
from scalestop.ladder.plan import LadderPlan
from scalestop.ladder.rung import Rung
from scalestop.ladder.settings import ASIDE, GRID, LadderSettings
from scalestop.run.records import RunRecord

SCHEMA = "scalestop.ladder/1"
DIVERGED = "DIVERGED"
"""`stop_reason` of a run whose loss ran away."""


@dataclass(frozen=True)
class Ladder:
    """A ladder in its folder.

    `ladder.json` is the plan; `records/`, `held_out/`, `sweep/`, `valley/` and `trunks/` hold one record for each
    finished run, `work/` what unfinished ones need to go on, `claims/` the locks.
    """

    folder: Path
    """The ladder's folder."""
    settings: LadderSettings
    """How its runs are trained."""
    target_flops: int
    """Compute of the run to forecast, FLOPs."""
    rungs: tuple[Rung, ...]
    """Its runs."""

    @classmethod
    def open(cls, plan: LadderPlan) -> Ladder:
        """Begin a ladder, or go on with the one in its folder.

        A ladder can grow: more budgets, sizes or seeds add runs to those that are there. How a run is trained cannot
        change.

        Raises:
            InputError: If the folder's runs were trained otherwise, naming each setting that differs.
        """
        ladder = cls(plan.settings.folder, plan.settings, plan.target_flops, plan.rungs)
        claim = Claim.take(ladder._inside(ladder.folder / "claims" / "ladder.lock"), wait=True)
        assert claim is not None
        with claim:  # two commands that begin at once do not overwrite each other's runs
            ladder = ladder._grown(plan)
            ladder._write()
        for rung in ladder.rungs:
            if ladder.is_done(rung):
                ladder._clear(rung)  # killed after the record was written and before this
        return ladder

    def _grown(self, plan: LadderPlan) -> Ladder:
        """Return the ladder with the runs that have ended in its folder."""
        ladder, folder = self, self.folder
        if (folder / "ladder.json").exists():
            before = Ladder.load(folder)
            old, new = (_identity(settings) for settings in (before.settings, plan.settings))
            if changed := [f"{name} was {old[name]!r} and is {new[name]!r}" for name in new if new[name] != old[name]]:
                raise InputError(
                    f"out: the runs in {folder} were trained with other settings: {'; '.join(changed)}. Runs trained "
                    f"differently do not make one law; choose another folder"
                )
            known = {rung.name: rung for rung in before.rungs}
            for rung in plan.rungs:
                if rung.name in known and not rung.same_as(known[rung.name]):
                    raise InputError(f"out: {rung.name} in {folder} was trained differently; choose another folder")
            planned = {rung.name for rung in plan.rungs}
            kept = tuple(r for r in before.rungs if r.name not in planned and before.is_done(r))
            ladder = replace(ladder, rungs=plan.rungs + kept)
        return ladder

    @classmethod
    def load(cls, folder: str | Path) -> Ladder:
        """Read a ladder from its folder.

        Raises:
            InputError: If there is none.
        """
        folder = as_path(folder, "out")
        path = folder / "ladder.json"
        if not os.path.isfile(path):
            raise InputError(f"out: there is no ladder in {shown(str(folder))}; begin one with scalestop ladder")
        data = read_json(path, "out")
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"out: {path} has schema {shown(got)}, not {SCHEMA!r}")
        given, target, rungs = data.get("settings"), data.get("target_flops"), data.get("rungs")
        if not isinstance(given, Mapping) or not isinstance(rungs, list) or type(target) is not int or target < 1:
            raise InputError(f"out: {path} is damaged: it lacks settings, target_flops or rungs")
        if unknown := sorted(set(given) - {field.name for field in fields(LadderSettings)}):
            raise InputError(f"out: {path} has unknown settings: {shown(unknown)}")
        try:
            settings = LadderSettings(**{**given, "out": str(folder)})
            return cls(folder, settings, target, tuple(map(Rung.from_dict, rungs)))
        except InputError as error:
            raise InputError(f"out: {path}: {error}") from None

    def __post_init__(self) -> None:
        names = [rung.name for rung in self.rungs]
        if len(set(names)) < len(names):
            raise InputError(f"out: {self.folder} names a rung twice")

    def _write(self) -> None:
        settings = asdict(self.settings)
        law = as_path(str(self.settings.law), "law")
        if os.path.isfile(law):
            settings["law"] = str(law.resolve())
        data = {
            "schema": SCHEMA,
            "settings": settings,
            "target_flops": self.target_flops,
            "rungs": [rung.to_dict() for rung in self.rungs],
        }
        write_whole(self.folder / "ladder.json", json.dumps(data, indent=1, default=list) + "\n")

    # ---- files

    def record_path(self, rung: Rung) -> Path:
        """Where the record of a run goes when it has ended."""
        # one below the fit stays where it was, so that the fit may begin elsewhere without training anew
        folders = {"trunk": "trunks", "sweep": "sweep", "valley": "valley", "below": "records"}
        kind = folders.get(rung.kind, "held_out" if rung.held_out else "records")
        return self._inside(self.folder / kind / f"{rung.name}.json")

    def work(self, rung: Rung) -> Path:
        """Folder of what an unfinished run needs to go on."""
        return self._inside(self.folder / "work" / rung.name)

    def points(self, trunk: str) -> Path:
        """Folder of a trunk's checkpoints that branches leave from."""
        return self._inside(self.folder / "trunks" / trunk)

    def _inside(self, path: Path) -> Path:
        """Return a path of the ladder's own.

        Raises:
            InputError: If it lies elsewhere, by a link: nothing is written or deleted outside the ladder's folder.
        """
        root, real = os.path.realpath(self.folder), os.path.realpath(path)
        if os.path.commonpath([root, real]) != root:
            raise InputError(f"out: {path} is a link that leads out of the ladder's folder, to {real}; remove it")
        return path

    def is_done(self, rung: Rung) -> bool:
        """Whether the run has ended, be it that it diverged."""
        return self.record_path(rung).exists()

    def record(self, rung: Rung) -> RunRecord | None:
        """The record of a run; None if it has not ended."""
        path = self.record_path(rung)
        return RunRecord.load(path) if path.exists() else None

    def finish(self, rung: Rung, record: RunRecord) -> None:
        """Keep the record of a run that has ended, and drop what it would have needed to go on."""
        record.save(self.record_path(rung))
        self._clear(rung)

    def _clear(self, rung: Rung) -> None:
        shutil.rmtree(self.work(rung), ignore_errors=True)
        if rung.trunk is not None and all(self.is_done(other) for other in self.branches(rung.trunk)):
            shutil.rmtree(self.points(rung.trunk), ignore_errors=True)

    def branches(self, trunk: str) -> list[Rung]:
        """The branches of a trunk."""
        return [rung for rung in self.rungs if rung.trunk == trunk]

    def trunk_of(self, rung: Rung) -> Rung | None:
        """The trunk of a branch."""
        return next((other for other in self.rungs if other.name == rung.trunk), None)

    def text(self) -> dict[str, Any]:
        """What the runs are trained on, as far as the data say it of themselves; see `keep_text`."""
        path = self.folder / "text.json"
        found = read_json(path, "out") if path.exists() else {}
        if not isinstance(found, dict):
            raise InputError(f"out: {path} is damaged; delete it if you know that all runs have one text")
        return found

    def keep_text(self, description: Mapping[str, Any]) -> None:
        """Keep what the runs are trained on.

        Args:
            description: Names and values, such as a hash of the text.

        Raises:
            InputError: If earlier runs were trained on another text.
        """
        before, now = self.text(), json.loads(json.dumps(description))
        if not before:
            write_whole(self.folder / "text.json", json.dumps(now, indent=1) + "\n")
            return
        told = ["sha256"] if "sha256" in before else list(now)  # the same text may lie elsewhere on another host
        if changed := [
            f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
            for name in told
            if now.get(name) != before.get(name)
        ]:
            raise InputError(
                f"data: the earlier runs in {self.folder} were trained on another text: {'; '.join(changed)}. Losses "
                f"on two texts do not make one law; choose another folder"
            )

    # ---- sharing the work

    def open_rungs(self, skip: Iterable[str] = ()) -> list[Rung]:
        """Runs that have not ended, the dearest first, so that all workers end at about the same time.

        A branch comes after its trunk, and costs what the trunk behind it costs too.
        """
        left = [rung for rung in self.rungs if not self.is_done(rung) and rung.name not in set(skip)]
        return sorted(left, key=lambda rung: (rung.kind == "branch", -rung.flops, rung.name))

    def take(self, skip: Iterable[str] = ()) -> tuple[Rung, Claim] | None:
        """Claim a run to train; None if none is free.

        Args:
            skip: Names of runs to leave alone.
        """
        for rung in self.open_rungs(skip):
            if rung.kind == "branch" and not self._has_start(rung):
                continue
            claim = Claim.take(self._claim(rung))
            if claim is None:
                continue
            if not self.is_done(rung):  # another worker may have ended it between the look and the claim
                return rung, claim
            claim.release()
        return None

    def _claim(self, rung: Rung) -> Path:
        return self._inside(self.folder / "claims" / f"{rung.name}.lock")

    def is_held(self, rung: Rung) -> bool:
        """Whether another process is training a run."""
        claim = Claim.take(self._claim(rung))
        if claim is not None:
            claim.release()
        return claim is None

    def waits(self, skip: Iterable[str] = (), stay: bool = True, others: Iterable[str] = ()) -> bool:
        """Whether, where no run is free, there is something to wait for.

        Args:
            skip: Names of runs that were tried in vain.
            stay: Whether a run that another process is training is; without it, only a trunk is that branches need.
            others: Names of runs that are none of this worker's.
        """
        failed = set(skip)
        return any(
            rung.trunk not in failed if rung.kind == "branch" and not self._has_start(rung) else stay
            for rung in self.open_rungs([*failed, *others])
        )

    def _has_start(self, rung: Rung) -> bool:
        trunk = self.trunk_of(rung)
        return trunk is not None and (self.start_point(rung).exists() or self.is_done(trunk))

    def start_point(self, rung: Rung) -> Path:
        """The trunk's checkpoint that a branch leaves from."""
        return self.points(str(rung.trunk)) / f"tokens={rung.start_tokens}.ckpt"


def _identity(settings: LadderSettings) -> dict[str, Any]:
    """Return the settings that decide what a run's loss will be."""
    return {
        name: json.loads(json.dumps(value, default=list))
        for name, value in asdict(settings).items()
        if name not in GRID + ASIDE
    }
