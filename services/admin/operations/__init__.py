"""Everything that can be done, as plain functions: `what_to_do(ctx, …)`.

The API's routes and the pages call these and nothing else, so that both can do the same. They are
blocking, raise the errors of `shared.errors`, and write the audit log in the transaction of the
change.
"""
