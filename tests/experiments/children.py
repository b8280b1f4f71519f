"""Processes of their own for tests, forked from one that has imported what takes long, so that they start at once."""

import multiprocessing
import os
import socket
import sys
from contextlib import contextmanager

import torch

CONTEXT = multiprocessing.get_context("forkserver")  # not fork: autograd's threads do not survive that
CONTEXT.set_forkserver_preload(
    [
        "torch._dynamo",
        "torch.distributed",
        "torch.utils.flop_counter",
        "torch.utils.tensorboard",
        "accelerate",
        "cv2",
        "safetensors.torch",
        "jsonargparse",
    ]
)


@contextmanager
def child(output, function, *arguments, **environment):
    """Start `function(*arguments)`, a module's own, in a process that prints to the file `output`; kill it at the end.

    What the function gives is the exit code, 0 for None.
    """
    process = CONTEXT.Process(target=_run, args=(str(output), environment, function, arguments))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def together(folder, function, *arguments, processes=2):
    """Run a function in processes that train together, as torchrun starts them; give what they printed, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    outputs = [folder / f"printed{rank}" for rank in range(processes)]
    ranks = [
        child(output, function, *arguments, RANK=str(rank), LOCAL_RANK=str(rank), **shared)
        for rank, output in enumerate(outputs)
    ]
    with ranks[0] as first, ranks[1] as second:
        for process in (first, second):
            process.join(120)
        printed = [output.read_text() for output in outputs]
        assert first.exitcode == second.exitcode == 0, printed
    return printed


def _run(output, environment, function, arguments):
    with open(output, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    torch.set_num_threads(1)
    code = function(*arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.exit(code)
