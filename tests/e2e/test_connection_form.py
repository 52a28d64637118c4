"""The form of a connection: fields of the mode, checks at the field, pickers, warnings."""

from __future__ import annotations

import re
import uuid
from typing import cast

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12PrivateKeyTypes
from playwright.sync_api import FilePayload, Page, expect

from tests.e2e.site import Site, fill_server
from tests.servers.certificates import Authority, ServerIdentity
from tests.servers.mail_server import PASSWORD


def open_form(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/connections/new")
    page.get_by_label("Name", exact=True).fill(f"form {uuid.uuid4().hex[:8]}")


@pytest.mark.promise("M1")
def test_a_name_is_taken_once_whatever_its_case(site: Site, page: Page) -> None:
    name = f"Twice {uuid.uuid4().hex[:8]}"
    site.add_connection(site.new_mailbox(), name=name)
    open_form(page, site)
    page.get_by_label("Name", exact=True).fill(name.upper())
    fill_server(page, site, "somebody")
    page.get_by_role("button", name="Save", exact=True).click()
    field = page.get_by_label("Name", exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("There is a connection named"))
    # What was typed is still there.
    expect(page.get_by_label("Username")).to_have_value("somebody")
    expect(page.get_by_label("Password", exact=True)).to_have_value(PASSWORD)


@pytest.mark.promise("M2", "M5")
def test_only_the_fields_of_the_mode_are_shown_and_sent(site: Site, page: Page) -> None:
    open_form(page, site)
    server, folder = page.get_by_label("Mail server", exact=True), page.get_by_label("Folder")
    kind = page.get_by_label("Kind of mailbox")
    expect(server).to_be_visible()
    expect(folder).to_be_visible()
    kind.select_option("pop3")
    expect(folder).to_be_hidden()
    expect(page.get_by_label("Port")).to_have_value("995")
    kind.select_option("microsoft-graph")
    expect(server).to_be_hidden()
    expect(server).to_be_disabled()
    expect(page.get_by_label("Password", exact=True)).to_be_hidden()
    expect(page.get_by_label("OAuth2 credential (Microsoft)")).to_be_visible()
    expect(page.get_by_label("OAuth2 credential (Google)")).to_be_hidden()
    kind.select_option("google-imap")
    expect(page.get_by_label("OAuth2 credential (Google)")).to_be_visible()
    expect(page.get_by_label("Override the default host")).to_be_hidden()


@pytest.mark.promise("M2")
def test_without_scripts_the_form_asks_for_the_mode_first(site: Site) -> None:
    with site.visitor(scripts=False) as page:
        page.goto(f"{site.url}/connections/new")
        page.get_by_label("Kind of mailbox").select_option("microsoft-graph")
        page.get_by_role("button", name="Show the fields of this kind").click()
        expect(page.get_by_label("OAuth2 credential (Microsoft)")).to_be_visible()
        expect(page.get_by_label("Mail server", exact=True)).to_be_hidden()


@pytest.mark.promise("M12")
def test_national_clouds_are_offered_as_hosts(site: Site, page: Page) -> None:
    open_form(page, site)
    page.get_by_label("Kind of mailbox").select_option("microsoft-imap")
    host = page.get_by_role("combobox", name=re.compile("^Host"))
    expect(host).to_be_hidden()
    page.get_by_label("Override the default host").check()
    expect(host).to_be_visible()
    offered = page.locator("datalist#hosts option")
    values = [option.get_attribute("value") for option in offered.all()]
    assert "partner.outlook.cn" in values
    assert "outlook.office365.us" in values


@pytest.mark.promise("M4", "M8")
@pytest.mark.parametrize(
    ("label", "typed", "told"),
    [
        ("Look for new mails every", "0", "whole minutes from 1 to 60"),
        ("Look for new mails every", "61", "whole minutes from 1 to 60"),
        ("Look for new mails every", "1.5", "whole minutes from 1 to 60"),
        ("Connection timeout", "60001", "milliseconds from 1 to 60000"),
    ],
)
def test_numbers_are_checked_at_their_field(
    site: Site, page: Page, label: str, typed: str, told: str
) -> None:
    open_form(page, site)
    fill_server(page, site, "somebody")
    page.get_by_text("More", exact=True).click()
    # The browser's own check stands aside, as any program's request does.
    page.locator("form.card").evaluate("form => { form.noValidate = true; }")
    page.get_by_label(label).fill(typed)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_label(label)).to_have_accessible_description(re.compile(told))
    expect(page.get_by_label(label)).to_have_value(typed)


@pytest.mark.promise("M5")
def test_folders_are_picked_from_the_mail_server(site: Site, page: Page) -> None:
    user = site.new_mailbox()
    with site.dovecot.client(user) as other:
        for folder in ("Main/Sub", "Entwürfe", "日本"):
            other.create_folder(folder)
    open_form(page, site)
    fill_server(page, site, user)
    page.get_by_role("button", name="Pick from the mail server").click()
    for folder in ("Entwürfe", "日本"):
        expect(page.get_by_role("button", name=folder, exact=True)).to_be_visible()
    page.get_by_role("button", name="Main/Sub", exact=True).click()
    expect(page.get_by_label("Folder")).to_have_value("Main/Sub")

    page.get_by_label("Folder").fill("Main/Sup")
    page.get_by_role("button", name="Test").click()
    result = page.get_by_label("Test result")
    expect(result).to_contain_text("does not exist")
    expect(result).to_contain_text("Main/Sub")


@pytest.mark.promise("M6")
def test_certificates_are_found_by_part_of_name_or_alias(
    site: Site, page: Page, authority: Authority
) -> None:
    mark = uuid.uuid4().hex[:8]
    upload_certificate(site, page, authority, name=f"Invoices {mark}", alias=f"inv-{mark}")
    label = f"Invoices {mark} (inv-{mark})"
    open_form(page, site)
    search = page.get_by_role("combobox", name="Certificates")
    search.fill(f"NV-{mark}")
    expect(page.get_by_role("option", name=label)).to_be_visible()
    search.press("ArrowDown")
    search.press("Enter")
    expect(page.get_by_role("list", name="Chosen certificates")).to_contain_text(label)
    fill_server(page, site, "somebody")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name=label)).to_be_visible()


@pytest.mark.promise("M3")
def test_a_certificate_that_nobody_vouches_for_is_refused_and_skipping_it_is_red(
    site: Site, page: Page, authority: Authority
) -> None:
    user = site.new_mailbox(1)
    open_form(page, site)
    fill_server(page, site, user)
    page.get_by_label("Encryption").select_option("tls")
    page.get_by_label("Port").fill(str(site.dovecot.imaps_port))
    page.get_by_role("button", name="Test").click()
    result = page.get_by_label("Test result")
    expect(result.get_by_role("listitem").filter(has_text="Encrypt")).to_have_class("failed")

    page.get_by_text("More", exact=True).click()
    page.get_by_label("Private certificate authority").fill(authority.certificate.read_text())
    page.get_by_role("button", name="Test").click()
    expect(result.get_by_role("heading", name="It works")).to_be_visible()

    page.get_by_label("Private certificate authority").fill("")
    page.get_by_label("Do not verify the server's certificate").check()
    page.get_by_role("button", name="Save", exact=True).click()
    warning = page.get_by_text("The server's certificate is not verified")
    expect(warning).to_be_visible()
    light_red = warning.evaluate("e => getComputedStyle(e).color")
    assert light_red == "rgb(168, 33, 26)"


@pytest.mark.promise("M9", "M7", "M11", "M18")
def test_choices_are_kept_and_warnings_stand_where_they_matter(site: Site, page: Page) -> None:
    user = site.new_mailbox()
    open_form(page, site)
    fill_server(page, site, user)
    page.get_by_label("All mails that were not fetched before").check()
    page.get_by_label("Delete the mail in the mailbox").check()
    address = page.get_by_label("Address of the shared mailbox")
    expect(address).to_be_hidden()
    page.get_by_label("It is a shared mailbox").check()
    address.fill("team@example.com")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("definition").filter(has_text="team@example.com")).to_contain_text(
        f"opened by {user}"
    )
    expect(page.get_by_text("Deleted", exact=True)).to_be_visible()
    expect(page.get_by_text("anyone on the way can read them")).to_be_visible()

    page.goto(f"{site.url}/connections/new")
    page.get_by_label("Kind of mailbox").select_option("pop3")
    page.get_by_label("Name", exact=True).fill(f"pop {uuid.uuid4().hex[:8]}")
    fill_server(page, site, user)
    page.get_by_label("Port").fill(str(site.dovecot.pop3_port))
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_label("Test result")).to_contain_text("POP3 cannot mark mails read")


@pytest.mark.promise("M11")
def test_exchange_login_forms_are_kept_as_they_were_typed(site: Site, page: Page) -> None:
    login = r"EXAMPLE\alice\Team.Mailbox"
    open_form(page, site)
    fill_server(page, site, login)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("definition").filter(has_text=login)).to_be_visible()
    page.get_by_role("link", name="Change", exact=True).click()
    expect(page.get_by_label("Username")).to_have_value(login)
    expect(page.get_by_label("It is a shared mailbox")).not_to_be_checked()


@pytest.mark.promise("M14")
@pytest.mark.parametrize(
    ("host", "port", "password", "step"),
    [
        ("no-such-host.invalid", 993, "hush-hush", "Find the server"),
        ("127.0.0.1", 1, "hush-hush", "Connect"),
        ("127.0.0.1", 0, "hush-hush", "Log in"),
    ],
)
def test_a_failing_test_names_its_step(
    site: Site, page: Page, host: str, port: int, password: str, step: str
) -> None:
    open_form(page, site)
    fill_server(page, site, site.new_mailbox(), password=password)
    page.get_by_label("Mail server", exact=True).fill(host)
    if port:
        page.get_by_label("Port").fill(str(port))
    page.get_by_role("button", name="Test").click()
    failed = page.get_by_label("Test result").locator("li.failed")
    expect(failed).to_contain_text(step, timeout=30_000)
    expect(page.get_by_label("Test result")).not_to_contain_text(password)


def upload_certificate(
    site: Site, page: Page, authority: Authority, *, name: str, alias: str = ""
) -> None:
    """Through the page, as a PKCS #12 file with a password."""
    identity = authority.issue(f"{uuid.uuid4().hex[:8]}@example.com")
    page.goto(f"{site.url}/certificates/new")
    page.get_by_label("File", exact=True).set_input_files(pkcs12(identity, b"letmein"))
    page.get_by_label("Password of the file").fill("letmein")
    page.get_by_label("Name", exact=False).fill(name)
    page.get_by_label("Alias").fill(alias)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)


def pkcs12(identity: ServerIdentity, password: bytes) -> FilePayload:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        load_pem_private_key,
        pkcs12,
    )

    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    key = load_pem_private_key(identity.key.read_bytes(), None)
    data = pkcs12.serialize_key_and_certificates(
        b"friendly",
        cast(PKCS12PrivateKeyTypes, key),
        certificate,
        None,
        BestAvailableEncryption(password),
    )
    return {"name": "mine.p12", "mimeType": "application/x-pkcs12", "buffer": data}


@pytest.mark.promise("M11")
@pytest.mark.promise("M12")
def test_a_shared_mailbox_in_a_national_cloud(site: Site, page: Page) -> None:
    credential = site.api(
        "POST",
        "/credentials",
        {
            "name": f"tenant {uuid.uuid4().hex[:8]}",
            "provider": "microsoft",
            "client_id": "abc",
            "client_secret": "secret",
        },
    )
    open_form(page, site)
    page.get_by_label("Kind of mailbox").select_option("microsoft-imap")
    page.get_by_label("OAuth2 credential (Microsoft)").select_option(str(credential["id"]))
    page.get_by_label("Username").fill("alice@example.org")
    address = page.get_by_label("Address of the shared mailbox")
    host = page.locator("#host_override")
    expect(address).to_be_hidden()
    expect(host).to_be_hidden()
    page.get_by_label("It is a shared mailbox").check()
    page.get_by_label("Override the default host").check()
    offered = page.locator("#hosts option").evaluate_all("found => found.map((o) => o.value)")
    assert {"outlook.office365.us", "outlook-dod.office365.us", "partner.outlook.cn"} < set(offered)
    address.fill("info@example.org")
    host.fill("outlook.office365.us")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("shared, opened by alice@example.org")).to_be_visible()
    expect(page.get_by_text("outlook.office365.us", exact=True)).to_be_visible()
