"""What builds and sets up; nothing here runs in a service."""
