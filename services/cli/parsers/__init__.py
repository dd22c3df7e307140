"""What each command of the operator's command line takes: one module a noun, each with `add(parser)`.

Nothing heavy is imported here: a command's module is loaded when it runs, this package's when its noun is the word.
"""
