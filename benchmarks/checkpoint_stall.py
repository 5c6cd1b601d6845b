"""How long a checkpoint holds the training up: the copy to memory, and what writing beside it costs the next step.

    uv run python benchmarks/checkpoint_stall.py [--model resnet50] [--image-size 224] [--batch-size 16] [--rounds 8]

A round is a step alone, a step at whose end the state is saved, and the step beside which it is written; then the disk
is waited for. Printed: medians, and the ratio of the stall (the copy, and by how much the step after it is longer than
the one alone) to a step, with a 95% bootstrap interval.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

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
        begin = time.perf_counter()
        CheckpointStore(folder, stepper.session.identity).list_whole()
        checked = time.perf_counter() - begin
    first, *rounds = rounds  # it also takes the memory
    alone, copy, beside = (statistics.median(column) for column in zip(*rounds, strict=True))
    stalls = [(copied + max(0.0, after - before)) / before for before, copied, after in rounds]
    ratio, low, high = bootstrap_median(stalls)
    print(f"{chosen.model}, {chosen.image_size} px, batch {chosen.batch_size}, {stepper.task.device},", end=" ")
    print(f"{config.compute.threads} threads, {size / 2**20:.0f} MiB a checkpoint")
    print(f"step alone                    {1000 * alone:9.1f} ms")
    print(f"copy to memory                {1000 * copy:9.1f} ms (the first {1000 * first[1]:.1f} ms)")
    print(f"step while it is written      {1000 * beside:9.1f} ms")
    print(f"stall, in steps               {ratio:9.3f}    (95% interval {low:.3f} to {high:.3f})")
    print(f"digests checked at a resume   {1000 * checked:9.1f} ms")


if __name__ == "__main__":
    main()
