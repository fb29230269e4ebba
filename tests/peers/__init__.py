"""Real peers for the tests: other people's programs, each in a folder and on ports of its own.

Lifecycle: `async with Baresip(folder, ...) as room:` starts the program and returns once it answers; leaving
the block ends it by its handle, politely first. What it printed is in `folder/*.log`; conftest shows the end
of each such file under the test's `tmp_path` when the test fails. Mark a test with `requires("baresip")` so
that it is skipped where the program is missing, and fails there in CI.
"""
