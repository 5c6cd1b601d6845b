"""The environment of a run: captured, compared; the digest of its code; the process that runs it."""

from genmed.records.environment.capture import capture_environment
from genmed.records.environment.code import Code, digest_code
from genmed.records.environment.cores import count_default_threads
from genmed.records.environment.differences import Difference, compare_environments
from genmed.records.environment.process import host_name, identify_process, is_alive

__all__ = [
    "Code",
    "Difference",
    "capture_environment",
    "compare_environments",
    "count_default_threads",
    "digest_code",
    "host_name",
    "identify_process",
    "is_alive",
]
