"""Times in the reader's zone, with its name, and in UTC on pointing at them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from playwright.sync_api import expect

from tests.e2e.site import Site, mail

KOLKATA = ZoneInfo("Asia/Kolkata")  # half an hour beside all others
UTC_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


def page_of(site: Site, name: str) -> str:
    """The address of the page of a connection's only mail."""
    ((number,),) = site.stack.query(
        "SELECT m.id FROM message m JOIN connection c ON c.id = m.connection_id WHERE c.name = %s",
        name,
    )
    return f"{site.url}/mails/{number}"


def test_times_are_those_of_the_readers_zone(site: Site) -> None:
    name = site.fetch(mail("When did it come?", "somebody"))
    found = page_of(site, name)
    with site.visitor(zone="Asia/Kolkata") as page:
        # The hours of the chart begin half an hour away from those of UTC.
        chart = page.locator("svg.chart[data-hours]")
        expect(chart).to_have_attribute("aria-label", re.compile(r"Times are GMT\+5:30"))
        labels = chart.locator("text[data-at]")
        for label in labels.all():
            at = datetime.fromisoformat(label.get_attribute("data-at") or "")
            assert label.text_content() == f"{at.astimezone(KOLKATA):%H:%M}"
        page.goto(found)
        time = page.locator("time.exact").first
        in_utc = UTC_TIME.fullmatch(time.get_attribute("title") or "")
        assert in_utc is not None
        at = datetime.fromisoformat(in_utc[1]).replace(tzinfo=UTC)
        expect(time).to_have_text(f"{at.astimezone(KOLKATA):%Y-%m-%d %H:%M:%S} GMT+5:30")


def test_without_scripts_times_are_utc_and_say_so(site: Site) -> None:
    name = site.fetch(mail("When was it?", "somebody"))
    found = page_of(site, name)
    with site.visitor(scripts=False, zone="Asia/Kolkata") as page:
        page.goto(found)
        expect(page.locator("time.exact").first).to_have_text(UTC_TIME)
