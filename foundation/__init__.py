"""What every domain stands on: identity and permission, audit, desks and events, bus, database, telemetry.

Lifecycle: `migrate(url)` brings the database up to date under a lock before anything else touches it; then
the process builds, once and in this order, `Telemetry`, a `Clock`, `Database`, an event bus, `Passwords`,
`Identity`, `Authorisation` with the site tree, and job workers. The bus and `TaskScope`s are entered with
`async with`; on the way out workers end first, then the bus, then `Passwords.close()` and
`Database.aclose()`. Nothing here is global but the log's form (`configure_logging`), nothing knows a domain.
"""
