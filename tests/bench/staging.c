/* Which way of bringing a file from memory to a GPU is fastest, without Java, Python or tensors around it?
 *
 *     cc -O2 -o staging tests/bench/staging.c -ldl -lpthread
 *     ./staging FILE WAY READERS CHUNK_KIB CHUNKS_IN_A_BATCH BATCHES STREAMS [ROUNDS]
 *
 * FILE may be a folder: then all its .safetensors files are brought, one behind the other.
 *
 * Readers claim chunks in order and read them into pinned buffers of some chunks each; whoever reads the last chunk of
 * a batch queues its copy. Prints GB/s of each round, and the readers' seconds in reads and in waits for buffers.
 *
 * WAY is one of
 *     pread    positional reads
 *     map      a copy out of a mapping, by memcpy
 *     stream   the same by stores that leave the cache alone (AVX2)
 *     copies   no reads: copies alone
 *     reads    no copies: positional reads alone
 * with "-blocked" behind it for waits that sleep in the driver, "-once" for MADV_SEQUENTIAL on the mapping, "-huge"
 * for buffers in huge pages of our own, registered with the driver, and "-first" for a first round that does all that
 * the first load of a process has to do: opens the files, pins the buffers, makes streams and memory of the GPU. All
 * that the documents quote: staging.sh.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <immintrin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLAB_BYTES ((size_t)1 << 30)
#define MAX_BATCHES 1024
#define MAX_STREAMS 64
#define MAX_READERS 64
#define MAX_FILES 256

typedef struct {
    pthread_mutex_t lock;
    _Atomic long round;   /* how often its copy has been waited for */
    _Atomic int filled;   /* chunks that have been read */
    void *copied;
} Batch;

static struct {
    int (*init)(unsigned), (*retain)(void **, int), (*set_current)(void *), (*host_alloc)(void **, size_t, unsigned);
    int (*alloc)(uint64_t *, size_t), (*stream)(void **, unsigned), (*copy)(uint64_t, const void *, size_t, void *);
    int (*event)(void **, unsigned), (*record)(void *, void *), (*await)(void *);
    int (*host_register)(void *, size_t, unsigned);
} cuda;

typedef struct {
    char path[4096], *mapping;
    int descriptor;
    size_t bytes, first_chunk;
} File;

static const char *way;
static int files, in_batch, batches, streams;
static size_t all_bytes, all_chunks, chunk_bytes;
static File file_of[MAX_FILES];
static char *pinned;
static uint64_t slab;
static void *context, *stream_of[MAX_STREAMS];
static Batch batch_of[MAX_BATCHES];
static _Atomic size_t next_chunk;
static _Atomic long read_nanos, wait_nanos;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void require(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s failed\n", what);
        exit(1);
    }
}

__attribute__((target("avx2"))) static void copy_past_cache(char *to, const char *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        __m256i low = _mm256_loadu_si256((const __m256i *)(from + i));
        __m256i high = _mm256_loadu_si256((const __m256i *)(from + i + 32));
        _mm_prefetch(from + i + 1024, _MM_HINT_T0);
        _mm256_stream_si256((__m256i *)(to + i), low);
        _mm256_stream_si256((__m256i *)(to + i + 32), high);
    }
    _mm_sfence();
}

static void read_chunk(char *to, const File *file, size_t offset, size_t bytes) {
    if (!strncmp(way, "pread", 5) || !strncmp(way, "reads", 5)) {
        for (size_t got = 0; got < bytes;) {
            ssize_t more = pread(file->descriptor, to + got, bytes - got, offset + got);
            require(more > 0, "pread");
            got += more;
        }
    } else if (!strncmp(way, "map", 3)) {
        memcpy(to, file->mapping + offset, bytes);
    } else if (!strncmp(way, "stream", 6)) {
        copy_past_cache(to, file->mapping + offset, bytes & ~(size_t)63);
    }
}

/* Waits until the batch's buffer has been copied as often as it was filled before. */
static void await_buffer(Batch *batch, long round) {
    if (atomic_load(&batch->round) >= round) {
        return;
    }
    pthread_mutex_lock(&batch->lock);
    while (atomic_load(&batch->round) < round) {
        if (atomic_load(&batch->filled) == in_batch) {
            cuda.await(batch->copied);
            atomic_store(&batch->filled, 0);
            atomic_fetch_add(&batch->round, 1);
        } else {
            pthread_mutex_unlock(&batch->lock);
            usleep(10);
            pthread_mutex_lock(&batch->lock);
        }
    }
    pthread_mutex_unlock(&batch->lock);
}

static void chunk_is_read(Batch *batch, size_t number, int last) {
    pthread_mutex_lock(&batch->lock);
    int filled = atomic_load(&batch->filled) + 1;
    if (filled == in_batch || last) {
        filled = in_batch;
        size_t bytes = in_batch * chunk_bytes;
        uint64_t target = slab + number * bytes % (SLAB_BYTES - bytes) / 4096 * 4096;
        void *stream = stream_of[number % streams];
        if (strncmp(way, "reads", 5)) {
            require(!cuda.copy(target, pinned + number % batches * bytes, bytes, stream), "cuMemcpyHtoDAsync");
            require(!cuda.record(batch->copied, stream), "cuEventRecord");
        }
    }
    atomic_store(&batch->filled, filled);
    pthread_mutex_unlock(&batch->lock);
}

static void *reader(void *unused) {
    (void)unused;
    long reading = 0, waiting = 0;
    const File *file = file_of;
    cuda.set_current(context);
    for (;;) {
        size_t chunk = atomic_fetch_add(&next_chunk, 1);
        if (chunk >= all_chunks) {
            break;
        }
        while (file + 1 < file_of + files && chunk >= file[1].first_chunk) {
            file++;
        }
        size_t offset = (chunk - file->first_chunk) * chunk_bytes, left = file->bytes - offset;
        size_t bytes = left < chunk_bytes ? left : chunk_bytes;
        size_t number = chunk / in_batch;
        Batch *batch = &batch_of[number % batches];
        double start = now();
        await_buffer(batch, number / batches);
        double waited = now();
        read_chunk(pinned + (number % batches * in_batch + chunk % in_batch) * chunk_bytes, file, offset, bytes);
        waiting += (waited - start) * 1e9;
        reading += (now() - waited) * 1e9;
        chunk_is_read(batch, number, chunk + 1 == all_chunks);
    }
    atomic_fetch_add(&read_nanos, reading);
    atomic_fetch_add(&wait_nanos, waiting);
    return NULL;
}

static void open_cuda(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    require(library != NULL, "dlopen of libcuda.so.1");
    const char *names[] = {"cuInit", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuMemHostAlloc",
                           "cuMemAlloc_v2", "cuStreamCreate", "cuMemcpyHtoDAsync_v2",
                           "cuEventCreate", "cuEventRecord", "cuEventSynchronize", "cuMemHostRegister_v2"};
    void **functions = (void **)&cuda;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        functions[i] = dlsym(library, names[i]);
        require(functions[i] != NULL, names[i]);
    }
    require(!cuda.init(0) && !cuda.retain(&context, 0) && !cuda.set_current(context), "opening GPU 0");
}

static void make_buffers(void) {
    size_t bytes = batches * in_batch * chunk_bytes;
    if (strstr(way, "-huge")) {
        pinned = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        require(pinned != MAP_FAILED, "mmap");
        madvise(pinned, bytes, MADV_HUGEPAGE);
        require(!cuda.host_register(pinned, bytes, 0), "cuMemHostRegister");
    } else {
        require(!cuda.host_alloc((void **)&pinned, bytes, 0), "cuMemHostAlloc");
    }
    require(!cuda.alloc(&slab, SLAB_BYTES), "cuMemAlloc");
    for (int i = 0; i < streams; i++) {
        require(!cuda.stream(&stream_of[i], 1), "cuStreamCreate");
    }
    for (int i = 0; i < batches; i++) {
        pthread_mutex_init(&batch_of[i].lock, NULL);
        require(!cuda.event(&batch_of[i].copied, strstr(way, "-blocked") ? 3 : 2), "cuEventCreate");
    }
}

static int is_safetensors(const struct dirent *entry) {
    const char *ending = strrchr(entry->d_name, '.');
    return ending != NULL && !strcmp(ending, ".safetensors");
}

static void name_files(const char *path) {
    struct dirent **entries;
    int count = scandir(path, &entries, is_safetensors, alphasort);
    if (count < 0) {
        snprintf(file_of[files++].path, sizeof file_of->path, "%s", path);
    }
    for (int i = 0; i < count; i++) {
        require(files < MAX_FILES, "so many files");
        snprintf(file_of[files++].path, sizeof file_of->path, "%s/%s", path, entries[i]->d_name);
    }
    require(files > 0, "finding .safetensors files");
}

static void open_files(void) {
    for (File *file = file_of; file < file_of + files; file++) {
        struct stat found;
        file->descriptor = open(file->path, O_RDONLY);
        require(file->descriptor >= 0 && !fstat(file->descriptor, &found), file->path);
        file->bytes = found.st_size;
        file->first_chunk = all_chunks;
        all_bytes += file->bytes;
        all_chunks += (file->bytes + chunk_bytes - 1) / chunk_bytes;
    }
}

static double once(int readers, int first) {
    double start = now();
    if (first) {
        open_files();
        make_buffers();
    }
    int maps = !strncmp(way, "map", 3) || !strncmp(way, "stream", 6);
    if (maps) {
        for (File *file = file_of; file < file_of + files; file++) {
            file->mapping = mmap(NULL, file->bytes, PROT_READ, MAP_SHARED, file->descriptor, 0);
            require(file->mapping != MAP_FAILED, "mmap");
            if (strstr(way, "-once")) {
                madvise(file->mapping, file->bytes, MADV_SEQUENTIAL);
            }
        }
    }
    next_chunk = 0;
    read_nanos = wait_nanos = 0;
    for (int i = 0; i < batches; i++) {
        batch_of[i].round = batch_of[i].filled = 0;
    }
    pthread_t threads[MAX_READERS];
    for (int i = 0; i < readers; i++) {
        pthread_create(&threads[i], NULL, reader, NULL);
    }
    for (int i = 0; i < readers; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < batches; i++) {
        cuda.await(batch_of[i].copied);
    }
    double seconds = now() - start;
    for (File *file = file_of; maps && file < file_of + files; file++) {
        munmap(file->mapping, file->bytes);
    }
    return seconds;
}

int main(int count, char **words) {
    if (count < 8) {
        fprintf(stderr, "staging FILE WAY READERS CHUNK_KIB CHUNKS_IN_A_BATCH BATCHES STREAMS [ROUNDS]\n");
        return 2;
    }
    name_files(words[1]);
    way = words[2];
    int readers = atoi(words[3]);
    chunk_bytes = (size_t)atoi(words[4]) << 10;
    in_batch = atoi(words[5]);
    batches = atoi(words[6]);
    streams = atoi(words[7]);
    int rounds = count > 8 ? atoi(words[8]) : 4;
    require(readers > 0 && readers <= MAX_READERS && batches > 0 && batches <= MAX_BATCHES && streams > 0
                && streams <= MAX_STREAMS && in_batch > 0 && chunk_bytes > 0, "reading the arguments");
    open_cuda();
    int first = strstr(way, "-first") != NULL;
    if (!first) {
        open_files();
        make_buffers();
    }
    printf("%s, %d readers, %d batches of %d x %zu KiB, %d streams, GB/s:", way, readers, batches, in_batch,
           chunk_bytes >> 10, streams);
    for (int i = 0; i < rounds; i++) {
        double seconds = once(readers, first && i == 0);
        printf(" %.1f", all_bytes / seconds / 1e9);
    }
    printf("; last: %.2f s in reads, %.2f s in waits\n", read_nanos / 1e9, wait_nanos / 1e9);
    return 0;
}
