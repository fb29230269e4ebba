"""Rows in, frozen dataclasses out: one repository class for each aggregate.

A repository is made for one transaction and dies with it:

    async with database.transaction() as tx:
        await SiteRepository(tx).save(site)
        await AuditTrail(tx).append(entry)      # last, so that the chain's lock is held briefly

Reading works the same in `database.reading()`. Rows and sessions never leave this package, and nothing here
announces anything: whoever opened the transaction publishes its event after the commit.
"""
