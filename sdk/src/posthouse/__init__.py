"""The Posthouse SDK: what a mail handler needs to consume mail events."""

from posthouse.consumer import Consumer
from posthouse.contents import Attachment, NoSuchPart
from posthouse.event import InvalidEvent, MailEvent, RawMismatch
from posthouse.following import follow
from posthouse.outcome import Outcome, Reject, Retry, TimedOut
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
    "Outcome",
    "RawMismatch",
    "RawUnavailable",
    "Reject",
    "Retry",
    "SourceLost",
    "TimedOut",
    "Unverified",
    "follow",
]
