"""A run's share of a campaign's budget: told what it uses, and ended when nothing is left."""

from __future__ import annotations

import os
import uuid

from scalestop.accounting.meter import Usage
from scalestop.planning.rule import StopReason
from scalestop.run.campaign import Campaign
from scalestop.run.host import Host
from scalestop.run.reporter import Reporter
from scalestop.run.stopping import StopDecision


class Share:
    """Charges one job of a run to a campaign. What cannot be written is said once, and the run goes on.

    Args:
        campaign: The campaign.
        run: Identity of the run.
        usd_per_device_hour: Price, where the campaign's budget is in money.
        host: What trains the run.
        reporter: Says what could not be written.
    """

    def __init__(
        self, campaign: Campaign, run: str, usd_per_device_hour: float | None, host: Host, reporter: Reporter
    ) -> None:
        self._campaign, self._run, self._price = campaign, run, usd_per_device_hour
        self._host, self._reporter = host, reporter
        self._job = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._troubled = False

    def charge(self, used: Usage) -> StopDecision | None:
        """Tell what this job has used, and return the decision to end the run where nothing is left. A collective.

        Args:
            used: Totals of this job, the same on every rank.
        """
        message = self._host.broadcast(self._charge(used) if self._reporter.speaks else None)
        return None if message is None else StopDecision(True, StopReason.CAMPAIGN_SPENT, message)

    def _charge(self, used: Usage) -> str | None:
        try:
            answer = self._campaign.charge(self._run, used, job=self._job, usd_per_device_hour=self._price)
        except Exception as error:  # storage is somebody else's
            if not self._troubled:
                self._troubled = True
                self._reporter.warn(f"the campaign could not be told: {type(error).__name__}: {error}")
            return None
        return None if answer.granted else answer.message

    def tell(self, used: Usage) -> None:
        """Tell what this job had used when it was broken off; no collective, as other ranks may be gone."""
        if self._reporter.speaks:
            self._charge(used)

    def close(self) -> None:
        """Give back what was held for the run and is not spent."""
        if self._reporter.speaks:
            try:
                self._campaign.release(self._run)
            except Exception as error:
                self._reporter.warn(f"the campaign could not be told: {type(error).__name__}: {error}")
