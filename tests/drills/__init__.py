"""Drills: real servers, something that operators do or suffer, and mails that arrive all the while.

`make drill NAME=rotation` runs one; each prints what it saw and ends with how many mails were lost.
"""
