"""Sites, the links between them, and how their terminals are known and found."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from foundation.schema.base import Base


class SiteRow(Base):
    """A node of the site tree."""

    __tablename__ = "sites"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("sites.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(40))
    conference_budget_bps: Mapped[int] = mapped_column(BigInteger)
    access_capacity_bps: Mapped[int] = mapped_column(BigInteger)


class LinkRow(Base):
    """The line between a site and the one above it."""

    __tablename__ = "links"
    __table_args__ = (UniqueConstraint("upper_site_id", "lower_site_id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    upper_site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"))
    lower_site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    capacity_bps: Mapped[int] = mapped_column(BigInteger)


class SiteAddressRow(Base):
    """An address or prefix on a network that identifies a caller as a site."""

    __tablename__ = "site_addresses"

    network: Mapped[str] = mapped_column(String(64), primary_key=True)
    prefix: Mapped[str] = mapped_column(String(49), primary_key=True)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id", ondelete="CASCADE"), index=True)


class SipAccountRow(Base):
    """Digest credentials of a terminal; only the HA1 values are kept (RFC 7616 3.4.2), sealed."""

    __tablename__ = "sip_accounts"

    username: Mapped[str] = mapped_column(String(128), primary_key=True)
    realm: Mapped[str] = mapped_column(String(128), primary_key=True)
    ha1_md5: Mapped[str | None] = mapped_column(Text)
    ha1_sha256: Mapped[str | None] = mapped_column(Text)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id", ondelete="CASCADE"), index=True)


class SipBindingRow(Base):
    """Where a registered terminal is; `q` in thousandths, `call_key` the SHA-256 of its Call-ID."""

    __tablename__ = "sip_bindings"
    __table_args__ = (
        ForeignKeyConstraint(
            ["username", "realm"], ["sip_accounts.username", "sip_accounts.realm"], ondelete="CASCADE"
        ),
    )

    username: Mapped[str] = mapped_column(String(128), primary_key=True)
    realm: Mapped[str] = mapped_column(String(128), primary_key=True)
    contact: Mapped[str] = mapped_column(String(500), primary_key=True)
    parameters: Mapped[str] = mapped_column(String(500))
    q: Mapped[int]
    call_key: Mapped[str] = mapped_column(String(64))
    cseq: Mapped[int] = mapped_column(BigInteger)
    registered_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    network: Mapped[str] = mapped_column(String(64))
    transport: Mapped[str] = mapped_column(String(8))
    host: Mapped[str] = mapped_column(String(64))
    port: Mapped[int]
    latched: Mapped[bool]
    user_agent: Mapped[str] = mapped_column(String(200))
