"""genmed show"""

from genmed.cli.options import Debug, Json, Root, RunReference, root_folder


def command(run: RunReference, root: Root = None, json: Json = False, debug: Debug = False) -> None:
    """Show one run: results, checkpoints, and the checklist of its reproducibility."""
    import sys

    from genmed.cli.output import knows_all_letters, print_json, print_table
    from genmed.cli.results import print_results
    from genmed.workflows.overview import check_off, describe_run, find_run

    folder = find_run(run, root_folder(root))
    described = describe_run(folder)
    if json:
        print_json(described)
        return
    print_results(described)
    if described["checkpoints"]:
        rows = [[entry["path"], str(entry["epoch"]), str(entry["step"])] for entry in described["checkpoints"]]
        print_table(["checkpoint", "epoch", "step"], rows, numbers=["epoch", "step"])
    tick, cross = ("✓", "✗") if knows_all_letters(sys.stdout) else ("yes", "no")
    checks = [[tick if good else cross, item, reason] for good, item, reason in check_off(folder, folder.read())]
    print_table(["", "checklist", "reason"], checks)
