"""Which hosts may be contacted, whatever clothes an address wears."""

from __future__ import annotations

import ipaddress

import pytest

from shared.hosts import HostRules
from shared.mailbox.net.connect import by_turns
from shared.settings import INSTANCE_SECRETS

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
]


@pytest.mark.parametrize("address", SECRETS)
def test_the_secrets_of_clouds_are_out_of_reach_by_default(address: str) -> None:
    rules = HostRules.parse([], INSTANCE_SECRETS)
    assert not rules.allows("mail.example.org", ipaddress.ip_address(address))
    allowed_by_name = HostRules.parse(["mail.example.org"], INSTANCE_SECRETS)
    assert not allowed_by_name.allows("mail.example.org", ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::5db8:d70e"])
def test_mail_servers_are_in_reach_by_default(address: str) -> None:
    rules = HostRules.parse([], INSTANCE_SECRETS)
    assert rules.allows("mail.example.org", ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "127.0.0.1", "192.168.1.1", "::1", "fd12::1", "0.0.0.0", "64:ff9b::a01:203"],
)
def test_private_networks_are_one_setting(address: str) -> None:
    target = ipaddress.ip_address(address)
    assert HostRules.parse([], [], private=True).allows("x", target)
    assert not HostRules.parse([], [], private=False).allows("x", target)
    # Who names them has decided.
    named = HostRules.parse(["mail.internal", "10.0.0.0/8"], [], private=False)
    assert named.allows("mail.internal", target)


def test_families_take_turns() -> None:
    found = [ipaddress.ip_address(text) for text in ("::1", "::2", "10.0.0.1", "::3", "10.0.0.2")]
    assert [str(one) for one in by_turns(found)] == ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]
    assert by_turns([]) == []
