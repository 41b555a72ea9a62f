"""Tables as loggers, spreadsheets and programs write them, to numbers.

What is read is right, or ``ValueError`` says in which line it could not be read. No I/O: lines are handed in.
"""
