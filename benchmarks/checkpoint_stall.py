"""How long a checkpoint holds the training up: the copy to memory, and what writing beside it costs the next step.

    uv run python benchmarks/checkpoint_stall.py [--model resnet50] [--image-size 224] [--batch-size 16] [--rounds 8]

A round is a step alone, a step at whose end the state is saved, and the step beside which it is written; then the disk
is waited for. Then, as often, the way of `resume` from the newest checkpoint to a learner ready for the next step: its
files held against their digests, the state put into a learner, and its fingerprint taken (what `resume` does before,
reading the data and building the model, is what every start does; see start.py). Printed: medians, and the ratio of the
stall (the copy, and by how much the step after it is longer than the one alone) to a step, and of a restore to a step,
with 95% bootstrap intervals.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from printing import describe_machine

from genmed.ground.interpreter import restart
from genmed.workflows.configure import configure, interpreter_variables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    flags = {
        "model.name": chosen.model,
        "data.image_size": chosen.image_size,
        "training.batch_size": chosen.batch_size,
        "compute.device": chosen.device,
    }
    config = configure(flags).config
    restart(interpreter_variables(config))

    from steps import Stepper, bootstrap_median

    from genmed.engine.checkpoint import list_checkpoints
    from genmed.engine.checkpoint_store import CheckpointStore
    from genmed.engine.learner import fingerprint_learner
    from genmed.engine.progress import Progress

    stepper = Stepper(config)
    learner, rounds = stepper.session.learner, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with CheckpointStore(folder, stepper.session.identity) as store:
            for number in range(chosen.rounds + 1):
                alone = stepper.step()
                progress = Progress(step=number + 1, best_epoch=1)
                stepper.step()
                state = fingerprint_learner(learner, progress)
                begin = time.perf_counter()
                store.save(learner, progress, state)
                copied = time.perf_counter()
                beside = stepper.step()
                store.wait()
                rounds.append((alone, copied - begin, beside))
        [newest] = list_checkpoints(folder)
        size = sum(path.stat().st_size for path in newest.iterdir())
        restores = []
        for _ in range(chosen.rounds):
            store = CheckpointStore(folder, stepper.session.identity)
            begin = time.perf_counter()
            [checkpoint], _ = store.list_whole()
            checked = time.perf_counter()
            store.restore(checkpoint, learner)
            restores.append((checked - begin, time.perf_counter() - checked))
    first, *rounds = rounds  # it also takes the memory
    alone, copy, beside = (statistics.median(column) for column in zip(*rounds, strict=True))
    stalls = [(copied + max(0.0, after - before)) / before for before, copied, after in rounds]
    ratio, low, high = bootstrap_median(stalls)
    restore, lowest, highest = bootstrap_median([sum(parts) / alone for parts in restores])
    check, put_back = (statistics.median(column) for column in zip(*restores, strict=True))
    print(describe_machine("torch"))
    print(f"{chosen.model}, {chosen.image_size} px, batch {chosen.batch_size}, {stepper.task.device},", end=" ")
    print(f"{config.compute.threads} threads, {size / 2**20:.0f} MiB a checkpoint")
    print(f"step alone                    {1000 * alone:9.1f} ms")
    print(f"copy to memory                {1000 * copy:9.1f} ms (the first {1000 * first[1]:.1f} ms)")
    print(f"step while it is written      {1000 * beside:9.1f} ms")
    print(f"stall, in steps               {ratio:9.3f}    (95% interval {low:.3f} to {high:.3f})")
    print(f"digests checked at a resume   {1000 * check:9.1f} ms")
    print(f"state put back, fingerprinted {1000 * put_back:9.1f} ms")
    print(f"restore, in steps             {restore:9.3f}    (95% interval {lowest:.3f} to {highest:.3f})")


if __name__ == "__main__":
    main()
