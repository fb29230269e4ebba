"""Keys for the databases of tests that keep secrets."""

from foundation.secrets import SecretBox

BOX = SecretBox([bytes(range(32))], "the tests' keys")
