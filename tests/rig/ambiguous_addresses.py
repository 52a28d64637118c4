"""Findings about an address list that leave open what another reader sees."""

from __future__ import annotations

from shared.mail.findings import FindingKind

#: With one of these in a From field, another reader may see another author.
AMBIGUOUS = frozenset(
    {
        FindingKind.SPECIALS_IN_WORD,
        FindingKind.WORD_FOR_ADDRESS,
        FindingKind.UNBALANCED_DELIMITER,
        FindingKind.ODD_SEPARATOR,
    }
    | {
        FindingKind.NAME_WITHOUT_ADDRESS,
        FindingKind.MALFORMED_ADDRESS,
        FindingKind.SOURCE_ROUTE,
        FindingKind.UNQUOTED_NAME,
    }
    | {FindingKind.TOO_MANY_ADDRESSES, FindingKind.MISSING_BRACKETS, FindingKind.OBSOLETE_ADDRESS}
)
