"""The first schema."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    folder = Path(__file__).parent.parent / "v0001"
    for path in sorted(folder.glob("*.sql")):
        # To psycopg a % begins a parameter.
        statements = path.read_text(encoding="utf-8").replace("%", "%%")
        op.get_bind().exec_driver_sql(statements)


def downgrade() -> None:
    raise NotImplementedError("Posthouse goes forward: restore a backup to go back.")
