"""The Posthouse SDK: what a mail handler needs to consume mail events."""

from posthouse.consumer import Consumer, Reject, Retry
from posthouse.contents import Attachment, NoSuchPart
from posthouse.event import InvalidEvent, MailEvent, RawMismatch
from posthouse.following import follow
from posthouse.raw import RawUnavailable
from posthouse.signing import Unverified
from posthouse.source import AccessRefused, SourceLost

__all__ = [
    "AccessRefused",
    "Attachment",
    "Consumer",
    "InvalidEvent",
    "MailEvent",
    "NoSuchPart",
    "RawMismatch",
    "RawUnavailable",
    "Reject",
    "Retry",
    "SourceLost",
    "Unverified",
    "follow",
]
