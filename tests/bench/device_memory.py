"""What pinning host memory and freeing device memory cost, by the driver's calls alone.

    python tests/bench/device_memory.py

Prints how long 12 buffers of 8 MiB take to pin, and how long a thread takes to start meanwhile; and how fast copies are
into memory that was freed just before, and a while before.
"""

import ctypes
import mmap
import threading
import time

BUFFERS, BUFFER_BYTES = 12, 8 << 20
HUGE_PAGE_BYTES = 2 << 20
MADV_HUGEPAGE, MADV_NOHUGEPAGE = 14, 15
GIB = 1 << 30
# Bytes of device memory, how many allocations they are, seconds since they were freed.
FREED = ((8 * GIB, 1, 0), (8 * GIB, 1, 1.0), (60 * GIB, 120, 0), (60 * GIB, 120, 1.0))
STEP_SECONDS = 0.02
SHOWN_STEPS = 16
TURNS = 3


class Driver:
    """libcuda, in the primary context of a GPU, which becomes current on this thread.

    Parameters
    ----------
    gpu : int
        Its number.
    """

    def __init__(self, gpu=0):
        self._library = ctypes.CDLL("libcuda.so.1")
        self._context = ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), gpu)
        self.enter()

    def enter(self):
        """Makes the context current on this thread."""
        self.call("cuCtxSetCurrent", self._context)

    def call(self, name, *arguments):
        """Calls a function.

        Raises
        ------
        RuntimeError
            It answers with anything but 0.
        """
        result = getattr(self._library, name)(*arguments)
        if result:
            raise RuntimeError(f"{name}: CUDA error {result}")


class Allocated:
    """A buffer that the driver makes."""

    def __init__(self, driver):
        self._driver, self.address = driver, ctypes.c_void_p()
        driver.call("cuMemHostAlloc", ctypes.byref(self.address), ctypes.c_size_t(BUFFER_BYTES), 0)

    def free(self):
        """Gives it back."""
        self._driver.call("cuMemFreeHost", self.address)


class Registered:
    """A buffer of our own, registered with the driver."""

    advice = MADV_HUGEPAGE

    def __init__(self, driver):
        self._driver = driver
        # Shared pages, which Python maps by itself, would stay small.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._pages = mmap.mmap(-1, BUFFER_BYTES + HUGE_PAGE_BYTES, flags=flags)
        self._pages.madvise(self.advice)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        self.address = ctypes.c_void_p(-(-start // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES)
        driver.call("cuMemHostRegister_v2", self.address, ctypes.c_size_t(BUFFER_BYTES), 0)

    def free(self):
        """Gives it back."""
        self._driver.call("cuMemHostUnregister", self.address)


class RegisteredSmall(Registered):
    """The same in pages of 4 KiB."""

    advice = MADV_NOHUGEPAGE


def pin(driver, kind, threads):
    """Seconds for all buffers, and the longest that a thread took to start in the meantime."""
    left, buffers, lock, done = [BUFFERS], [], threading.Lock(), threading.Event()

    def work():
        driver.enter()
        while True:
            with lock:
                if not left[0]:
                    return
                left[0] -= 1
            buffers.append(kind(driver))

    longest = [0.0]

    def watch():
        while not done.is_set():
            begun = time.perf_counter()
            one = threading.Thread(target=lambda: None)
            one.start()
            one.join()
            longest[0] = max(longest[0], time.perf_counter() - begun)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    for buffer in buffers:
        buffer.free()
    return seconds, longest[0]


def copied(driver, pinned, size, allocations):
    """GB/s of copies into fresh memory, for each step of time; the memory is freed."""
    stream, address, target = ctypes.c_void_p(), pinned.address, ctypes.c_uint64()
    driver.call("cuStreamCreate", ctypes.byref(stream), 1)
    targets, rates, done, begun = [], [], 0, time.perf_counter()
    for _ in range(allocations):
        driver.call("cuMemAlloc_v2", ctypes.byref(target), ctypes.c_size_t(size // allocations))
        targets.append(target.value)
        for offset in range(0, size // allocations, BUFFER_BYTES):
            place = ctypes.c_uint64(target.value + offset)
            driver.call("cuMemcpyHtoDAsync_v2", place, address, ctypes.c_size_t(BUFFER_BYTES), stream)
            done += BUFFER_BYTES
            if done % (16 * BUFFER_BYTES) == 0:
                driver.call("cuStreamSynchronize", stream)
                now = time.perf_counter()
                if now - begun >= STEP_SECONDS:
                    rates.append(done / (now - begun) / 1e9)
                    done, begun = 0, now
    driver.call("cuStreamSynchronize", stream)
    for one in targets:
        driver.call("cuMemFree_v2", ctypes.c_uint64(one))
    driver.call("cuStreamDestroy_v2", stream)
    return rates


def main():
    driver = Driver()
    for kind, name in ((Allocated, "the driver's own"), (RegisteredSmall, "small pages, registered"),
                       (Registered, "huge pages, registered")):  # fmt: skip
        for threads in (1, 4):
            seconds, stalled = min(pin(driver, kind, threads) for _ in range(TURNS))
            print(f"pinning {BUFFERS} x {BUFFER_BYTES >> 20} MiB, {name}, {threads} threads: {seconds * 1e3:.1f} ms; "
                  f"another thread started within {stalled * 1e3:.1f} ms")  # fmt: skip
    pinned = Allocated(driver)
    copied(driver, pinned, *FREED[0][:2])
    for size, allocations, pause in FREED:
        copied(driver, pinned, size, allocations)
        time.sleep(pause)
        rates = copied(driver, pinned, size, allocations)
        shown = " ".join(f"{rate:.0f}" for rate in rates[:SHOWN_STEPS])
        print(
            f"copies into {size >> 30} GiB, freed {pause:.0f} s before, GB/s for every {STEP_SECONDS * 1e3:.0f} ms:",
            shown,
        )


if __name__ == "__main__":
    main()
