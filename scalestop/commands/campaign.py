"""`scalestop campaign`: one budget for many runs: open one, look at it, give back what a dead run holds. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from scalestop.commands._parser import new_parser, parse
from scalestop.run.campaign import Campaign


def run(words: Sequence[str]) -> int:
    """Open a campaign, print one, or give back a run's share."""
    parser = new_parser("campaign", "One budget that the runs of a sweep share, kept in a file that they all charge.")
    commands = parser.add_subcommands(required=True)
    create = ArgumentParser(exit_on_error=False, description="Open a campaign.")
    create.add_argument("file", type=str, help="its ledger, in a folder that all its processes see")
    create.add_argument(
        "--budget", type=str, required=True, help="for all runs together, such as '1e18 FLOPs or 100 USD'"
    )
    commands.add_subcommand("create", create, help="open a campaign")
    status = ArgumentParser(exit_on_error=False, description="What was spent, by whom, and what is left.")
    status.add_argument("file", type=str, help="its ledger")
    status.add_argument("--json", action="store_true", help="print JSON")
    commands.add_subcommand("status", status, help="what was spent, by whom, and what is left")
    release = ArgumentParser(exit_on_error=False, description="Give back what a run holds: it died and stays away.")
    release.add_argument("file", type=str, help="its ledger")
    release.add_argument("run", type=str, help="the run's name")
    commands.add_subcommand("release", release, help="give back what a run holds that will not come back")
    options = parse(parser, words)
    asked = options[options.subcommand]
    if options.subcommand == "create":
        campaign = Campaign.create(asked.file, asked.budget)
    else:
        campaign = Campaign(asked.file)
        if options.subcommand == "release":
            campaign.release(asked.run)
    status_now = campaign.status()
    as_json = options.subcommand == "status" and asked.json
    print(json.dumps(status_now.to_dict(), indent=2) if as_json else status_now)
    return 0
