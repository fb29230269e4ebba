"""Measurements against peers, run by `make bench`.

Lifecycle: each module here with a `run()` that returns or yields `Result`s is a benchmark of the module's
name. The runner starts each in a process of its own, one after another, so that none inherits another's
threads and memory, and prints and writes each row when it comes. A benchmark makes its inputs itself,
measures its peer in the same run, and counts CPU seconds of the process under test.
"""
