"""Which hosts may be contacted, whatever form an address has."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from shared.allowed_hosts import HostRules
from shared.mailbox.net.connect import by_turns
from shared.settings import INSTANCE_SECRETS, Settings
from shared.vault import new_key

SECRETS = [
    "169.254.169.254",
    "fe80::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",  # NAT64
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",  # 6to4
    "::a9fe:a9fe",  # IPv4-compatible
    "::ffff:0:a9fe:a9fe",  # IPv4-translated
    "2001:0:4136:e378:8000:63bf:5601:5601",  # Teredo, to whom it leads
    "2001:0:a9fe:a9fe:8000:63bf:3fff:fdd2",  # Teredo, whom it asks for a way
    "64:ff9b:1:a9fe:a9:fe00::",  # NAT64 of one network, prefix of 48 bits
    "64:ff9b:1:12a9:fe:a9fe::",  # of 56
    "64:ff9b:1:1200:a9:fea9:fe00::",  # of 64
    "64:ff9b:1:1200::a9fe:a9fe",  # of 96
    "2001:db8::5efe:a9fe:a9fe",  # ISATAP
    "2001:db8::200:5efe:a9fe:a9fe",
    "::ffff:169.254.169.254%1",
]


def settings(**given: Any) -> Settings:
    needed = {"database_url": "postgresql:///x", "broker_url": "redis:///x"}
    return Settings(**{**needed, "store_url": "file:///x", "secret_keys": (new_key(),), **given})


@pytest.mark.promise("M14")
@pytest.mark.parametrize("address", SECRETS)
def test_the_secrets_of_clouds_are_out_of_reach(address: str) -> None:
    rules = HostRules.of(settings())
    assert not rules.allows("mail.example.org", ipaddress.ip_address(address))
    more_is_denied = HostRules.of(settings(denied_hosts=("10.0.0.0/8",)))
    assert not more_is_denied.allows("mail.example.org", ipaddress.ip_address(address))
    allowed_by_name = HostRules.of(settings(allowed_hosts=("mail.example.org",)))
    assert not allowed_by_name.allows("mail.example.org", ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::5db8:d70e"])
def test_mail_servers_are_in_reach_by_default(address: str) -> None:
    rules = HostRules.parse([], INSTANCE_SECRETS)
    assert rules.allows("mail.example.org", ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("10.1.2.3", "127.0.0.1", "192.168.1.1", "::1", "fd12::1", "0.0.0.0", "64:ff9b::a01:203"),
        *("198.18.0.1", "192.0.0.8", "240.0.0.1", "255.255.255.255", "224.0.0.1", "ff02::1"),
        "5f00::1",
    ],
)
def test_private_networks_are_one_setting(address: str) -> None:
    target = ipaddress.ip_address(address)
    assert HostRules.parse([], [], private=True).allows("x", target)
    assert not HostRules.parse([], [], private=False).allows("x", target)
    # Who names them has decided.
    named = HostRules.parse(["mail.internal", "10.0.0.0/8"], [], private=False)
    assert named.allows("mail.internal", target)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("64:ff9b::c000:201", True),
        ("2001:0:c000:201:0:0:3fff:fdfe", True),  # Teredo: server and client both in 192.0.2.0/24
        ("2001:0:c000:201:0:0:f5ff:fffe", False),  # the server is, whom it leads to is not
        ("64:ff9b:1:c000:2:100:a00:1", False),  # one reading is, another is not
        ("198.51.100.1", False),
    ],
)
def test_what_is_allowed_leads_nowhere_else(address: str, allowed: bool) -> None:
    rules = HostRules.parse(["192.0.2.0/24"], [])
    assert rules.allows("mail.example.org", ipaddress.ip_address(address)) is allowed


def test_families_take_turns() -> None:
    found = [ipaddress.ip_address(text) for text in ("::1", "::2", "10.0.0.1", "::3", "10.0.0.2")]
    assert [str(one) for one in by_turns(found)] == ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]
    assert by_turns([]) == []
