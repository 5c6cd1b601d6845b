"""Patients: missing ones, ids that look alike, and those read from the path by a regular expression of the user's."""

import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from genmed.ground.errors import DataError
from genmed.ground.wording import say_count
from genmed.parts.data.records import Records
from genmed.parts.data.tables import SAME_NAME, Rewriting, find_alike, is_missing

SECONDS = 60.0
SAME_PATIENT: dict[str, Rewriting] = {
    "leading zeros": lambda text: re.sub(r"(?<![\d.])0+(?=\d)", "", text),
    "a final .0": lambda text: re.sub(r"(?<=\d)\.0$", "", text, flags=re.MULTILINE),
    **SAME_NAME,
}
"""In what two ids of one patient may differ, and what makes them equal."""


def settle_patients(records: Records, pattern: str | None) -> Records:
    """The records with a patient for each image, or none at all, and notes on what is not certain.

    An image whose patient is missing counts as a patient of its own. Where the table names studies by one name each,
    and does not number them by patient, all images of its study count as that patient, so that no study is split.
    pattern: what reads the patients from the ids, if the dataset names none. Raises DataError.
    """
    notes: list[str] = []
    patients = _fill_missing(records, records.patients, "Patient", notes)
    if pattern and not patients:
        found = find_patients(records.ids, pattern)
        patients = _fill_missing(records, found, f"Patient, by data.patient_pattern {pattern!r},", notes)
    distinct = list(set(patients))
    for difference, rewrite in SAME_PATIENT.items():
        if groups := find_alike(distinct, rewrite):
            one, other = map(ascii, groups[0][:2])
            notes.append(
                f"Patient ids differ in {difference} alone ({one} and {other}; {sum(map(len, groups)):,} ids in all):"
                " each counts as a patient of its own"
            )
    if patients is records.patients and not notes:
        return records
    return replace(records, patients=patients, notes=(*records.notes, *notes))


def _fill_missing(records: Records, patients: tuple[str, ...], what: str, notes: list[str]) -> tuple[str, ...]:
    """The patients with a stand-in for each that is missing; empty if all are. A line is added to the notes."""
    missing = {patient for patient in set(patients) if is_missing(patient)}
    if not missing:
        return patients
    named = {pair for pair in zip(patients, records.studies, strict=False) if pair[0] not in missing}
    numbered_by_patient = len({study for _, study in named}) < len(named)
    whole_studies = records.studies and not numbered_by_patient
    units, unit = (records.studies, "study") if whole_studies else (records.ids, "image")
    spelt = ", ".join(sorted(patient or "nothing" for patient in missing))
    count = sum(patient in missing for patient in patients)
    notes.append(f"{what} missing in {say_count(count, 'image')} ({spelt}): each {unit} counts as a patient of its own")
    if count == len(patients):
        return ()
    return tuple(unit if patient in missing else patient for patient, unit in zip(patients, units, strict=True))


def find_patients(ids: Sequence[str], pattern: str) -> tuple[str, ...]:
    """What the pattern finds in each id, its first group if it has one.

    Raises DataError with the first id in which it finds nothing: patients that are half known make a wrong split.
    """
    expression = re.compile(pattern)
    with _at_most(SECONDS, pattern):
        found = [expression.search(name) for name in ids]
    without = [name for name, match in zip(ids, found, strict=True) if not match or not match[expression.groups and 1]]
    if without:
        raise DataError(
            f"data.patient_pattern {pattern!r} finds no patient in {len(without)} of {len(ids)} images ({without[0]})",
            "change the pattern, or leave it out and split by image",
        )
    return tuple(match[expression.groups and 1] for match in found if match)


@contextmanager
def _at_most(seconds: float, pattern: str) -> Iterator[None]:
    """A pattern may take for ever, and it may be a stranger's. Python's engine minds signals, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise DataError(
            f"data.patient_pattern {pattern!r} takes more than {seconds:g} s", "one repetition within another may"
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
