"""Reading a mail: header fields, parameters and MIME structure, each with its place in the octets.

Pure functions over octets: no I/O, no exception for what a mail can contain. What can be read in
more than one way is read in one of them and said in a list of findings (`shared.mail.findings`).
"""
