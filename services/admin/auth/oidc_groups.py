"""From what a provider of logins says of somebody's groups to a role and tags here.

    {"mail-admins": {"role": "admin"}, "sales": {"role": "operator", "tags": ["sales"]}}

The claim is found by its whole name, or by a path of dots into objects (Keycloak's
`realm_access.roles`). It may be a list, one text (AD FS with a single group), or an object whose
keys are the groups (Zitadel).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.admin.auth.browser_logins import LoginRefused
from services.admin.oidc_groups_setting import Granted
from shared.people import PERMISSIONS, Role

_SHOWN: Final = 300  # characters of a provider's words


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedRole:
    """What somebody gets, and of which groups."""

    role: Role
    tags: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Groups:
    """The mapping. Without one, roles and tags are what administrators give."""

    claim: str = "groups"
    granted: Mapping[str, Granted] = field(default_factory=dict)

    def grant(self, claims: Mapping[str, Any]) -> GrantedRole:
        """The highest role that one of the groups gives, with the tags of the groups that give it:
        nobody gets what no group of theirs has. Raises LoginRefused where none gives anything."""
        named = self._named(claims)
        mine = {name: self.granted[name] for name in self.granted if name in named}
        if not mine:
            raise LoginRefused(
                "None of your groups may use Posthouse."
                if named
                else f"Your login provider names no group of yours (claim {self.claim!r}).",
                hint="An administrator of Posthouse maps groups to roles: POSTHOUSE_OIDC_GROUPS.",
            )
        role = max((one.role for one in mine.values()), key=lambda one: len(PERMISSIONS[one]))
        deciding = {name: one for name, one in mine.items() if one.role is role}
        tags: tuple[str, ...] = ()
        if all(one.tags for one in deciding.values()):
            tags = tuple(dict.fromkeys(tag for one in deciding.values() for tag in one.tags))
        return GrantedRole(role=role, tags=tags, groups=tuple(deciding))

    def _named(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Raises LoginRefused where the token has no such claim, or says where it would be."""
        found = _at(claims, self.claim)
        if found is None:
            left_out = claims.get("_claim_names")
            if (isinstance(left_out, Mapping) and self.claim in left_out) or claims.get(
                "hasgroups"
            ):
                # Entra names a place in Graph instead of more than 200 groups (OpenID Connect
                # Core section 5.6.2; "groups overage claim").
                raise LoginRefused(
                    f"You are in so many groups that your login provider left {self.claim!r} out "
                    "of its answer (_claim_names).",
                    hint="An administrator of Entra: App registrations, Token configuration, "
                    "groups claim, “Groups assigned to the application”; or app roles, with "
                    "POSTHOUSE_OIDC_GROUPS_CLAIM=roles.",
                )
            there = ", ".join(sorted(map(str, claims)))[:_SHOWN]
            raise LoginRefused(
                f"Your login provider says nothing of your groups: there is no claim "
                f"{self.claim!r} in its token, which has {there}.",
                hint="Have the provider add the claim to the ID token (some ask for a scope: "
                "POSTHOUSE_OIDC_SCOPES), or name the one it has in POSTHOUSE_OIDC_GROUPS_CLAIM.",
            )
        if isinstance(found, str):
            return frozenset({found})
        if isinstance(found, (list, Mapping)):
            return frozenset(name for name in found if isinstance(name, str))
        return frozenset()


def _at(claims: Any, path: str) -> Any:
    """None where there is nothing. Names of claims may hold dots themselves, as addresses do."""
    if not isinstance(claims, Mapping):
        return None
    if claims.get(path) is not None:
        return claims[path]
    for at, letter in enumerate(path):
        if letter == "." and path[:at] in claims:
            found = _at(claims[path[:at]], path[at + 1 :])
            if found is not None:
                return found
    return None
