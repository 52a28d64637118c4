"""The Posthouse SDK: what a mail handler needs to consume mail events."""
