"""What one rank of groups.py does: joins the others, times one loader with them, and prints what it found as JSON, a
line each, as time_loader.py does.

    python tests/bench/group_rank.py LOADER FOLDER --rank 0 --groups "[[0, 1]]" --meet FILE [--opens 3] [--check] ...

Without --meet it loads alone, and without a process group. Where it fails, its last line has the "error".
"""

import argparse
import glob
import json
import math
import os
import sys
import time
import traceback
from contextlib import contextmanager
from datetime import timedelta

import consuming
from time_loader import measure

GATHERED_BYTES = 128 << 20
GATHER_TURNS = 5


@contextmanager
def joined(rank, groups, meeting, limit_seconds, device):
    """This rank in its group, with the communicator warm. Left in order only where nothing failed: others that wait
    in a collective would not come.

    Parameters
    ----------
    rank : int
        The GPU has its number.
    groups : list of list of int
        All groups, the same on every rank.
    meeting : str
        A file that is not there yet, the same on every rank.
    limit_seconds : float
        How long a collective waits.
    device : {"cuda", "cpu"}
    """
    import torch
    import torch.distributed as dist

    # All ranks are on this host, whose name may stand for an address that leads nowhere.
    for backend in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{backend}_SOCKET_IFNAME", "lo")
    on_gpu = device == "cuda"
    if on_gpu:
        # Before anything makes a context.
        torch.cuda.set_device(rank)
    world, limit = sum(map(len, groups)), timedelta(seconds=limit_seconds)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world,
        timeout=limit, device_id=torch.device("cuda", rank) if on_gpu else None,
    )  # fmt: skip
    # Every rank makes every group, in the same order.
    made = [dist.group.WORLD if len(ranks) == world else dist.new_group(ranks, timeout=limit) for ranks in groups]
    own = next(group for group, ranks in zip(made, groups) if rank in ranks)
    one = torch.ones(1, device=device)
    dist.all_reduce(one, group=own)
    dist.all_gather_into_tensor(torch.empty(dist.get_world_size(own), device=device), one, group=own)
    dist.barrier()
    yield own
    dist.barrier()
    dist.destroy_process_group()


def gather_rate(group, device):
    """Of an in-place gather, GB/s of the whole slab, every group at once; None in a group of one."""
    import torch
    import torch.distributed as dist

    ranks = dist.get_world_size(group)
    part = GATHERED_BYTES // ranks
    slab = torch.zeros(ranks * part, dtype=torch.uint8, device=device)
    mine = slab[dist.get_rank(group) * part :][:part]
    dist.all_gather_into_tensor(slab, mine, group=group)
    consuming.synchronize(device)
    dist.barrier()
    start = time.perf_counter()
    for _ in range(GATHER_TURNS):
        dist.all_gather_into_tensor(slab, mine, group=group)
    consuming.synchronize(device)
    rate = GATHER_TURNS * slab.nbytes / (time.perf_counter() - start) / 1e9
    del slab, mine
    if device == "cuda":
        # Loaders find the GPU as they do without this.
        torch.cuda.empty_cache()
    return rate if ranks > 1 else None


def load(arguments, device):
    """Everything that `measure` finds, and the gather's rate."""
    files = sorted(glob.glob(f"{arguments.folder}/*.safetensors"))
    if arguments.meet is None:
        yield from ({**found, "gather_rate": None} for found in measure(arguments.loader, files, device, arguments))
        return
    import torch.distributed as dist

    with joined(arguments.rank, arguments.groups, arguments.meet, arguments.limit, device) as group:
        rate = gather_rate(group, device)
        for found in measure(arguments.loader, files, device, arguments, dist.barrier, process_group=group):
            yield {**found, "gather_rate": rate}


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("loader")
    add("folder")
    add("--rank", type=int, default=0)
    add("--groups", type=json.loads, default=[[0]])
    add("--meet", help="a file by which the ranks find each other")
    add("--opens", type=int, default=1)
    add("--limit", type=float, default=90, help="seconds that a collective may take (%(default)s)")
    add("--memory", action="store_true")
    add("--check", action="store_true")
    # The others' number of opens has to be the same.
    parser.set_defaults(consume="drop", cache="as is", enough=math.inf)
    arguments = parser.parse_args(argv)
    from machine import DEVICE

    try:
        for found in load(arguments, DEVICE):
            print(json.dumps(found), flush=True)
    except BaseException as error:
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        # An end in order could wait for the others.
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
