"""The doctor: sends every form of request that a run may send to a mailbox, once, changing nothing.

`examination` drives the mailbox through what a run does to it, with the code of a run; `exchanges`
takes what was said apart, request by request; `request_forms` says what each form of request is
for; `recording` writes it all down with names, addresses, ids, tokens and mails replaced.
"""
