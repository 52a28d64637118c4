"""The schema's versions; `shared.storage.migrate` applies them."""
