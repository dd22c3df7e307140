"""The pure part of the scheduler: which tick of which job is due, and which key's secret."""
