"""Which mails a handler takes: rules over the facts of a mail, groups, and why a mail was left out.

Values and decisions only; who asks them is the decryptor, and the dry run of admin.
"""
