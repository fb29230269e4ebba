"""Where in its clip a violation began"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("violations", sa.Column("clip_moment", sa.Double(), nullable=True))
