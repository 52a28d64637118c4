"""What Microsoft Entra's numbers (AADSTS…) mean for a connection.

Source: "Microsoft Entra authentication and authorization error codes",
learn.microsoft.com/entra/identity-platform/reference-error-codes. Numbers that are not here keep
the provider's own words and lose nothing: only what is under GRANT_LOST says that a refresh token
is dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.mailbox.errors import diagnoses
from shared.mailbox.errors.diagnoses import Diagnosis

_NUMBERS: Final[tuple[tuple[Diagnosis, tuple[int, ...]], ...]] = (
    (diagnoses.GRANT_LOST, (50173, 70000, 70008, 700082, 700084)),
    # Ended sessions: a changed policy or password may revive the token, so it is kept.
    (
        diagnoses.LOGIN_AGAIN,
        (
            *(16000, 50058, 50085, 50089, 50132, 50133, 50139, 50197, 51006),
            *(50143, 50199, 54005, 70043, 70044, 70046, 700003, 700005, 700020, 9002341),
        ),
    ),
    (
        diagnoses.SECOND_FACTOR,
        (50072, 50074, 50076, 50078, 50079, 50125, 50158, 50161, 53004, 53010),
    ),
    (
        diagnoses.POLICY_BLOCKED,
        (
            *(50002, 50005, 50097, 50127, 50129, 50131, 50155, 50177, 50178, 50187, 53000, 53001),
            53002,
            *(
                53003,
                53009,
                53011,
                80012,
                135011,
                530001,
                530003,
                530004,
                90123,
                500021,
                500022,
                500212,
                500213,
                530032,
                530034,
                530035,
            ),
        ),
    ),
    (diagnoses.PASSWORD_EXPIRED, (50055, 50056, 50064, 50126, 50135, 50142, 50144)),
    (diagnoses.ACCOUNT_LOCKED, (50053,)),
    (diagnoses.CLIENT_LOOP, (50196,)),
    (diagnoses.CLOCK_WRONG, (80013, 500133, 700024)),
    (
        diagnoses.PROVIDER_BUSY,
        (
            *(40008, 40010, 50000, 50033, 50087, 50088, 50166, 70012, 80001, 80002, 80005),
            *(80007, 80014, 90006, 90012, 90024, 90033, 90055, 90090, 90091, 501621),
        ),
    ),
    (diagnoses.USER_UNKNOWN, (16003, 50014, 50020, 50034, 51004, 90072, 500208, 500341)),
    (diagnoses.USER_BLOCKED, (50015, 50057, 50105, 54000, 500571, 501051)),
    (
        diagnoses.CONSENT_MISSING,
        (65001, 90008, 90094, 90095, 90099, 650052, 650056, 7000229),
    ),
    (diagnoses.CONSENT_DENIED, (65004,)),
    (
        diagnoses.SCOPE_WRONG,
        (
            28002,
            28003,
            50001,
            65005,
            70011,
            500011,
            650053,
            650054,
            650057,
            700022,
            700023,
            1002012,
        ),
    ),
    (diagnoses.SECRET_WRONG, (70002, 7000215, 7000216, 7000218)),
    (diagnoses.SECRET_EXPIRED, (7000222,)),
    (diagnoses.CERTIFICATE_REFUSED, (50012, 50013, 50048, 700021, 700027, 700030, 900384)),
    (diagnoses.CLIENT_UNKNOWN, (700011, 700016)),
    (diagnoses.CLIENT_DISABLED, (70001, 500014, 1000031, 7000112)),
    (diagnoses.CLIENT_PUBLIC, (700025,)),
    (
        diagnoses.TENANT_WRONG,
        (
            50049,
            50194,
            90038,
            90043,
            90051,
            90124,
            90130,
            9001023,
            9002332,
            1000104,
            900382,
            900432,
            5000224,
            5000225,
        ),
    ),
    (diagnoses.TENANT_UNKNOWN, (50059, 50128, 90002, 90019, 90023, 900023)),
    (diagnoses.REDIRECT_WRONG, (50011, 70004, 500113, 900971)),
)
#: AADSTS number → what it means.
MEANINGS: Final[Mapping[int, Diagnosis]] = {
    number: meaning for meaning, numbers in _NUMBERS for number in numbers
}
