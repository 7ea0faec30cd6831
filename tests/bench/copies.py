"""What torch alone takes to copy each part of a slab into memory of its own, and to let it go, in several ways.

    python tests/bench/copies.py [--at-once 128 ...] [--tensor-bytes 65536] [--device cuda]

No loader is involved. Prints microseconds a tensor, medians: what Python's part of a load of small tensors with
copy=True cannot be less than, at the speed that the processor has meanwhile. "memory" is torch's allocator alone,
without a copy. The others are kernels for many tensors at once: "foreach copy" from views to new tensors, "foreach
add" of zero to views as integers, which makes new ones, and "split" of one long view. Our loader splits where there
are 64 small neighbours or more, and adds zero to all else. "a loop" is a turn of an empty loop: where it takes twice
as long, somebody else has half of the processor.
"""

import argparse
import itertools
import time

from consuming import synchronize
from machine import DEVICE
from run import count
from views import loop_nanoseconds, told

TENSORS = 1024
TURNS = 24


def memory(rows, elements, number):
    import torch

    return list(map(torch.empty_like, itertools.repeat(rows[:elements], number)))


def foreach_copy(rows, elements, number):
    """As integers: of floats it would change the bits of NaNs."""
    import torch

    views = rows.view(torch.int16).unsafe_split_with_sizes([elements] * number)
    copies = [torch.empty_like(view) for view in views]
    torch._foreach_copy_(copies, views)
    return [copy.view(rows.dtype) for copy in copies]


def foreach_add(rows, elements, number):
    import torch

    views = rows.view(torch.int16).unsafe_split_with_sizes([elements] * number)
    return list(map(torch.Tensor.view, torch._foreach_add(views, 0), itertools.repeat(rows.dtype)))


def split(rows, elements, number):
    import torch

    copies = memory(rows, elements, number)
    torch.split_with_sizes_copy(rows, [elements] * number, out=copies)
    return copies


WAYS = (memory, foreach_copy, foreach_add, split)


def measured(device, tensor_bytes, at_once):
    """Microseconds of a tensor, by way and number; and nanoseconds of a turn of a loop."""
    import torch

    elements = tensor_bytes // 2
    slab = torch.zeros(TENSORS * elements, dtype=torch.bfloat16, device=device)
    found, loops = {(way, number): [] for number in at_once for way in WAYS}, []
    for _ in range(TURNS):
        loops.append(loop_nanoseconds())
        for (way, number), taken in found.items():
            synchronize(device)
            start = time.perf_counter()
            for first in range(0, TENSORS, number):
                these = min(number, TENSORS - first)
                copies = way(slab[first * elements : (first + these) * elements], elements, these)
                # One after the other, as a loader hands them out.
                copies.reverse()
                for _tensor in map(copies.pop, itertools.repeat(-1, these)):
                    pass
            taken.append((time.perf_counter() - start) / TENSORS * 1e6)
    return told(found, loops)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=count, nargs="+", default=[128], help="copied in a call: %(default)s")
    parser.add_argument("--tensor-bytes", type=count, default=64 << 10, help="an even number: %(default)s")
    parser.add_argument("--device", default=DEVICE, help="%(default)s")
    arguments = parser.parse_args()
    if arguments.tensor_bytes % 2:
        parser.error("--tensor-bytes: tensors are of two bytes an element")
    print(measured(arguments.device, arguments.tensor_bytes, arguments.at_once))


if __name__ == "__main__":
    main()
