"""The SDK by itself: no broker."""
