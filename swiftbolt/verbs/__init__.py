"""What the command line can do, one function per verb, by subject. ``swiftbolt/cli.py`` lists them.

A verb reads its input, asks the library to do the work and prints the result. Ray and HTTP serving are
programs of their own and are started as such. Modules here import nothing heavy at the top: a verb
imports what it needs when it runs.
"""
