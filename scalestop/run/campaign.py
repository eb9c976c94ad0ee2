"""One budget for many runs, which they ask before they start and charge as they go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from scalestop.accounting.meter import Usage
from scalestop.errors import InputError, shown
from scalestop.files import as_path
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.run.accounts import (
    COUNTERS,
    Account,
    CampaignAnswer,
    CampaignStatus,
    amount_of,
    amounts,
    limited,
    summed,
)
from scalestop.run.ledger import Ledger

_SCHEMA = 1


class Campaign:
    """One budget that the runs of a sweep share.

    A run asks with `reserve` before it starts, tells its totals with `charge` as it goes, ends when that says so, and
    gives back what it did not use with `release`. Each call is one transaction; nothing stays open between two.

        campaign = Campaign.create("sweep.jsonl", "1e18 FLOPs")
        if campaign.reserve("run-7", "1e17 FLOPs").granted: ...
        answer = campaign.charge("run-7", usage, job="1")     # Usage of this job: totals, not what came on top
        if not answer.granted: ...                            # stop

    Args:
        path: The ledger, as `Campaign.create` made it.

    Raises:
        InputError: If there is none, or it is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path(path, "campaign")
        self._book = _Book(self.path)
        self.status()

    @classmethod
    def create(cls, path: str | Path, budget: BudgetLike) -> Campaign:
        """Open a campaign.

        Args:
            path: Where its ledger goes: a folder that all its processes see, on a file system with locks.
            budget: What all runs together may spend.

        Raises:
            InputError: If the file exists, or the budget cannot be read.
        """
        file, limits = as_path(path, "campaign"), Budget.parse(budget)
        file.parent.mkdir(parents=True, exist_ok=True)
        book = _Book(file)
        with book.writing(create=True):
            if book.budget is not None:
                raise InputError(f"campaign: {file} exists already; open it, or choose another name")
            book.add({"campaign": _SCHEMA, "budget": str(limits), "at": time.time()})
        return cls(file)

    def status(self) -> CampaignStatus:
        """Return the campaign as it is now.

        Raises:
            InputError: If its file cannot be read.
        """
        with self._book.reading():
            return self._book.status()

    def reserve(self, run: str, wanted: BudgetLike) -> CampaignAnswer:
        """Ask for a share before a run starts; it is held for the run until `release`.

        Asking again, as after a resume, replaces what was held.

        Args:
            run: Identity of the run.
            wanted: What it may spend, in at least one of the campaign's units.

        Raises:
            InputError: If it names none of the limits that the campaign has.
        """
        _check_name(run, "run")
        asked = Budget.parse(wanted)
        with self._book.writing():
            status = self._book.status()
            limits = limited(status.budget)
            shares = {counter: getattr(asked, counter) for counter in limits if getattr(asked, counter) is not None}
            if not shares:
                raise InputError(
                    f"wanted: the campaign's budget is {status.budget}, and {asked} names no limit of that kind; ask "
                    f"for {' or '.join(limits)}"
                )
            left = status.left(run)
            mine = next((account for account in status.accounts if account.run == run), None)
            spent = mine.spent if mine else {}
            for counter, amount in shares.items():
                more = max(0, amount - spent.get(counter, 0))
                if left[counter] <= 0 or more > left[counter]:
                    return CampaignAnswer(
                        False,
                        f"the campaign has {amount_of(counter, max(0, left[counter]))} left of {status.budget}, and "
                        f"{run!r} asks for {amount_of(counter, more)}",
                        left,
                    )
            self._book.add({"run": run, "reserved": shares, "at": time.time()})
        return CampaignAnswer(True, f"{run!r} may spend {asked}", left)

    def charge(
        self, run: str, usage: Usage, *, job: str = "", usd_per_device_hour: float | None = None
    ) -> CampaignAnswer:
        """Tell what a run has used, and ask whether it may go on.

        Totals are told and never what came on top, so the same call twice counts once, and one that comes late takes
        nothing back. A run that is killed and goes on from an older checkpoint spends part of its compute twice: give
        each of its jobs a name and tell each job's own usage, and both parts are counted.

        Args:
            run: Identity of the run.
            usage: Totals, global over ranks: of the run, or of the job that is named.
            job: Name of the job within the run.
            usd_per_device_hour: Price, US dollars; needed where the campaign's budget is in money.

        Returns:
            Whether it may go on: not if what is left, less what is held for other runs, is spent.

        Raises:
            InputError: If money is limited and no price is known.
            OSError: If the ledger cannot be written; nothing of this call is in it then.
        """
        _check_name(run, "run")
        totals: dict[str, float] = {
            "flops": usage.flops,
            "tokens": usage.tokens_non_padding,
            "device_seconds": usage.device_seconds,
            "seconds": usage.seconds,
        }
        if usd_per_device_hour is not None:
            totals["usd"] = usage.device_seconds / 3600 * usd_per_device_hour
        with self._book.writing():
            if self._book.status().budget.usd is not None and usd_per_device_hour is None:
                raise InputError("usd_per_device_hour: the campaign's budget is in money; give the device's price")
            self._book.add({"run": run, "job": job, "spent": totals, "at": time.time()})
            status = self._book.status()
        left = status.left(run)
        short = [counter for counter, amount in left.items() if amount <= 0]
        if not short:
            return CampaignAnswer(True, f"left for {run!r}: {amounts(left)}", left)
        spent = ", ".join(f"{amount_of(c, status.spent(c))} spent" for c in short)
        held = "; the rest is held for other runs" if not status.is_spent else ""
        return CampaignAnswer(False, f"the campaign's {status.budget} are used up: {spent}{held}", left)

    def release(self, run: str) -> None:
        """Give back what a run holds and has not spent: it has ended, or died and will not come back."""
        _check_name(run, "run")
        with self._book.writing():
            self._book.status()  # or there is none
            self._book.add({"run": run, "reserved": {}, "at": time.time()})


def _check_name(name: str, argument: str) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > 500:
        raise InputError(f"{argument}: a name of 1 to 500 characters; got {shown(name)}")


class _Book(Ledger):
    """A campaign's ledger, added up."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "campaign", "`scalestop campaign create` opens one")
        self.forget()

    def forget(self) -> None:
        self.budget: Budget | None = None
        self._spent: dict[str, dict[str, dict[str, float]]] = {}
        self._reserved: dict[str, dict[str, float]] = {}
        self._heard: dict[str, float] = {}

    def take(self, entry: Any) -> None:
        if self.budget is None:
            if entry["campaign"] != _SCHEMA:
                raise ValueError(f"version {shown(entry['campaign'])}, and this reads {_SCHEMA}")
            self.budget = Budget.parse(entry["budget"])
            return
        run, at = str(entry["run"]), float(entry["at"])
        if "reserved" in entry:
            self._reserved[run] = {counter: _number(value) for counter, value in entry["reserved"].items()}
        else:
            totals = self._spent.setdefault(run, {}).setdefault(str(entry["job"]), {})
            for counter, value in entry["spent"].items():
                totals[counter] = max(totals.get(counter, 0), _number(value))
        self._heard[run] = max(at, self._heard.get(run, 0.0))

    def status(self) -> CampaignStatus:
        if self.budget is None:
            raise InputError(f"campaign: {self.path} is empty; `scalestop campaign create` opens one")
        accounts = []
        for run, at in self._heard.items():
            jobs = list(self._spent.get(run, {}).values())
            sums = {c: summed(job.get(c, 0) for job in jobs) for c in COUNTERS if any(c in job for job in jobs)}
            accounts.append(Account(run, sums, self._reserved.get(run, {}), at))
        return CampaignStatus(self.budget, tuple(accounts))


def _number(value: Any) -> float:
    """Return an amount as it is: exact where it is an int.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**300:
        raise ValueError(f"{shown(value)} is no amount")
    return value
