"""The Posthouse SDK: what a mail handler needs to consume mail events."""

from posthouse.consumer import Consumer
from posthouse.contents import Attachment, NoSuchPart
from posthouse.errors import PosthouseError
from posthouse.event import InvalidEvent, MailEvent, RawMismatch
from posthouse.event_data import Connection, Headers, Redelivery, Security
from posthouse.following import follow
from posthouse.mail import Address, AuthenticationResult, Bounce, Mail, Part, Recipient, Spam
from posthouse.outcome import Outcome, Reject, Retry, TimedOut
from posthouse.raw import RawUnavailable
from posthouse.signing import Unverified
from posthouse.source import AccessRefused, SourceLost

__all__ = [
    "AccessRefused",
    "Address",
    "Attachment",
    "AuthenticationResult",
    "Bounce",
    "Connection",
    "Consumer",
    "Headers",
    "InvalidEvent",
    "Mail",
    "MailEvent",
    "NoSuchPart",
    "Outcome",
    "Part",
    "PosthouseError",
    "RawMismatch",
    "RawUnavailable",
    "Recipient",
    "Redelivery",
    "Reject",
    "Retry",
    "Security",
    "SourceLost",
    "Spam",
    "TimedOut",
    "Unverified",
    "follow",
]
