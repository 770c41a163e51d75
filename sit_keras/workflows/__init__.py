"""What each command does, one file a command.

May import everything but `cli`.
"""
