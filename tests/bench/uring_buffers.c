/* Reads of a file past the page cache by several threads: pread, io_uring, and io_uring with registered buffers.
 *
 *     cc -O2 -o uring_buffers tests/bench/uring_buffers.c -lpthread && ./uring_buffers FILE [THREADS [KIB [ROUNDS]]]
 *
 * Each thread has a descriptor, a buffer of huge pages where there are some, and a ring of its own, with one read under
 * way, as the engine's readers have. The page cache is emptied of FILE before each pass. GB/s, and the processors' time
 * (user and system) for each GB; medians of the rounds, whose ways take turns.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum way { PREAD, READ, READ_FIXED, WAYS };
static const char *const names[] = {"pread", "io_uring", "io_uring, registered buffers"};

static const char *path;
static size_t bytes = 2 << 20;
static off_t file_bytes;
static enum way way;
static _Atomic off_t next;

static void require(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

struct ring {
    int descriptor;
    _Atomic unsigned *sq_tail, *cq_head, *cq_tail;
    unsigned sq_mask, cq_mask, *sq_array;
    struct io_uring_sqe *entries;
    struct io_uring_cqe *completions;
};

static struct ring open_ring(void *buffer) {
    struct io_uring_params params = {0};
    struct ring ring = {.descriptor = (int)syscall(SYS_io_uring_setup, 1, &params)};
    require(ring.descriptor >= 0, "io_uring_setup");
    size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    int shared = MAP_SHARED | MAP_POPULATE;
    char *sq = mmap(NULL, sq_bytes, PROT_READ | PROT_WRITE, shared, ring.descriptor, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, cq_bytes, PROT_READ | PROT_WRITE, shared, ring.descriptor, IORING_OFF_CQ_RING);
    ring.entries = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, shared,
                        ring.descriptor, IORING_OFF_SQES);
    require(sq != MAP_FAILED && cq != MAP_FAILED && ring.entries != MAP_FAILED, "mapping a ring");
    ring.sq_tail = (_Atomic unsigned *)(sq + params.sq_off.tail);
    ring.sq_mask = *(unsigned *)(sq + params.sq_off.ring_mask);
    ring.sq_array = (unsigned *)(sq + params.sq_off.array);
    ring.cq_head = (_Atomic unsigned *)(cq + params.cq_off.head);
    ring.cq_tail = (_Atomic unsigned *)(cq + params.cq_off.tail);
    ring.cq_mask = *(unsigned *)(cq + params.cq_off.ring_mask);
    ring.completions = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
    if (way == READ_FIXED) {
        struct iovec registered = {buffer, bytes};
        require(!syscall(SYS_io_uring_register, ring.descriptor, IORING_REGISTER_BUFFERS, &registered, 1),
                "registering a buffer");
    }
    return ring;
}

static ssize_t read_by(struct ring *ring, int descriptor, void *buffer, off_t offset) {
    unsigned tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed), slot = tail & ring->sq_mask;
    ring->entries[slot] = (struct io_uring_sqe){
        .opcode = way == READ_FIXED ? IORING_OP_READ_FIXED : IORING_OP_READ, .fd = descriptor, .off = (uint64_t)offset,
        .addr = (uint64_t)(uintptr_t)buffer, .len = (uint32_t)bytes};
    ring->sq_array[slot] = slot;
    atomic_store_explicit(ring->sq_tail, tail + 1, memory_order_release);
    long entered = syscall(SYS_io_uring_enter, ring->descriptor, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    require(entered == 1, "io_uring_enter");
    unsigned head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
    require(head != atomic_load_explicit(ring->cq_tail, memory_order_acquire), "waiting for a read");
    ssize_t result = ring->completions[head & ring->cq_mask].res;
    atomic_store_explicit(ring->cq_head, head + 1, memory_order_release);
    return result;
}

static void *read_all(void *unused) {
    (void)unused;
    int descriptor = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    require(descriptor >= 0, path);
    void *memory = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(memory != MAP_FAILED, "memory");
    void *buffer = (void *)(((uintptr_t)memory + bytes - 1) & -(uintptr_t)bytes);
    madvise(buffer, bytes, MADV_HUGEPAGE);
    memset(buffer, 1, bytes);
    struct ring ring = {0};
    if (way != PREAD) {
        ring = open_ring(buffer);
    }
    for (off_t at = atomic_fetch_add(&next, (off_t)bytes); at < file_bytes;
         at = atomic_fetch_add(&next, (off_t)bytes)) {
        ssize_t got = way == PREAD ? pread(descriptor, buffer, bytes, at) : read_by(&ring, descriptor, buffer, at);
        require(got > 0, "reading");
    }
    if (way != PREAD) {
        close(ring.descriptor);
    }
    close(descriptor);
    munmap(memory, 2 * bytes);
    return NULL;
}

static double processor_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int ascending(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

int main(int count, char **words) {
    if (count < 2) {
        fprintf(stderr, "uring_buffers FILE [THREADS [KIB [ROUNDS]]]\n");
        return 2;
    }
    path = words[1];
    int threads = count > 2 ? atoi(words[2]) : 8, rounds = count > 4 ? atoi(words[4]) : 5;
    bytes = (size_t)(count > 3 ? atoi(words[3]) : 2048) << 10;
    require(threads > 0 && threads <= 256 && rounds > 0 && rounds <= 64 && (bytes & (bytes - 1)) == 0, "the arguments");
    struct stat found;
    require(!stat(path, &found), path);
    file_bytes = found.st_size & -4096;
    double seconds[WAYS][64], busy[WAYS][64];
    for (int round = 0; round < rounds; round++) {
        for (way = PREAD; way < WAYS; way++) {
            int descriptor = open(path, O_RDONLY);
            posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
            close(descriptor);
            next = 0;
            pthread_t started[256];
            double start = now(), processors = processor_seconds();
            for (int i = 0; i < threads; i++) {
                require(!pthread_create(&started[i], NULL, read_all, NULL), "a thread");
            }
            for (int i = 0; i < threads; i++) {
                pthread_join(started[i], NULL);
            }
            seconds[way][round] = now() - start;
            busy[way][round] = processor_seconds() - processors;
        }
    }
    for (way = PREAD; way < WAYS; way++) {
        qsort(seconds[way], (size_t)rounds, sizeof(double), ascending);
        qsort(busy[way], (size_t)rounds, sizeof(double), ascending);
        printf("%s: %.2f GB/s, %.0f ms of processors a GB\n", names[way],
               (double)file_bytes / seconds[way][rounds / 2] / 1e9,
               busy[way][rounds / 2] * 1e3 / ((double)file_bytes / 1e9));
    }
    return 0;
}
