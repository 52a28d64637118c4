"""The API reference in the pages: every operation, and a call that is tried."""

from __future__ import annotations

import uuid

from playwright.sync_api import Page, expect

from tests.e2e.site import Site


def test_a_call_is_tried_from_the_reference(site: Site, page: Page) -> None:
    name = f"tried-{uuid.uuid4().hex[:8]}"
    page.goto(site.url)
    page.get_by_role("link", name="API reference").click()
    page.locator("#operations-tag-handlers").click()
    for method in ("get", "post"):
        block = page.locator(f".opblock-{method}").filter(
            has=page.locator('[data-path="/api/v1/handlers"]')
        )
        block.locator(".opblock-summary").click()
        if method == "post":
            block.locator("textarea.body-param__text").fill(
                f'{{"name": "{name}", "connections": []}}'
            )
        block.get_by_role("button", name="Execute").click()
        answer = block.locator(".live-responses-table .response").first
        expect(answer.locator(".response-col_status")).to_contain_text(
            "200" if method == "get" else "201", timeout=30_000
        )
    assert [one["name"] for one in site.api("GET", f"/handlers?q={name}")["items"]] == [name]
