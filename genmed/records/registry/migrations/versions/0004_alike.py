"""PostgreSQL holds integers of 64 bits and orders text by its bytes, as SQLite does from the first."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

INTEGERS = {"runs": ["pid", "epochs_total", "epochs_done"], "checkpoints": ["epoch"], "metrics": ["epoch"]}
TEXTS = {
    "runs": [
        *("id", "name", "path", "status", "dataset", "model", "device", "config_fingerprint", "host", "boot_id"),
        *("parent", "note", "fingerprint", "trace_digest", "error", "data_fingerprint", "code_digest", "git_commit"),
        *("name_seal", "seal", "rest_seal"),
    ],
    "checkpoints": ["run_id", "path", "sha256", "seal"],
    "metrics": ["run_id", "name", "seal"],
    "verifications": ["run_id", "verdict", "seal"],
    "evaluations": ["run_id", "name", "dataset", "split", "seal"],
}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, columns in INTEGERS.items():
        for column in columns:
            op.alter_column(table, column, type_=sa.BigInteger())
    for table, columns in TEXTS.items():
        for column in columns:
            op.alter_column(table, column, type_=sa.String(collation="C"))
