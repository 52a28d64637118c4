"""OAuth2 at Google and Microsoft: grants and tokens."""
