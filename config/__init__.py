"""Settings of a node: a YAML file and `ANSHI_` variables become frozen values, once, at start.

`config.loading.load(path)` reads the file, lays the environment over it and returns a
`config.settings.Settings`, or raises `ConfigurationError` with one line that names the file (or the
variable) and the key. Nothing is read again while a node runs: the supervisor hands the same values to
every process it starts (`dump`, `restore`). Beside this module lie one working example a level.
"""
