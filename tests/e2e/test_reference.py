"""The API reference in the pages: every operation, and a call that is tried."""

from __future__ import annotations

import json
import subprocess
import uuid

from playwright.sync_api import Page, expect

from tests.e2e.site import TOKEN, Site


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
        command = block.locator(".curl").first.inner_text()
        assert "csrf" not in command
        if method == "get":  # what stands beside the answer runs in a shell, once a token is put in
            pasted = command.replace("<your token>", TOKEN)
            done = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=True)
            assert "items" in json.loads(done.stdout)
    assert [one["name"] for one in site.api("GET", f"/handlers?q={name}")["items"]] == [name]
