"""Run by alembic: the migrations join the transaction of the connection that `genmed.records.registry.migrate` passes.

Nothing is logged, printed or read from an ini file.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
context.run_migrations()
