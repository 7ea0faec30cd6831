/* When a request is answered, and with what: options, due times, the queue of those that wait, counts.
 *
 * One lock guards all of it. A read is due when its latency is over and both bandwidths, its descriptor's and the
 * one of all, have carried it and what came before it. Requests wait in a heap, and not each in a thread: so many
 * hundreds can. */
#define _GNU_SOURCE
#include "slow_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint64_t NEVER = UINT64_MAX;
static const uint64_t LONGEST_WAIT_NS = 3600ull * 1000 * 1000 * 1000;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t earliest; /* the one thread that waits for the first due time */
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static int is_led; /* whether there is such a thread */

static struct request **heap;
static size_t waiting, room;
static uint64_t all_free_ns;

/* ---- Options -------------------------------------------------------------------------------- */

static const char *const option_names[OPTION_COUNT] = {
    "latency_ms", "metadata_ms", "bandwidth", "descriptor_bandwidth",
    "error_every", "error_from", "error_bytes", "short_every", "short_bytes",
    "stall_from", "stall_bytes", "stall_s", "file_bytes", "refuse_direct", "seed",
    "threads", "readahead_bytes",
};
static double values[OPTION_COUNT] = {[STALL_S] = INFINITY, [FILE_BYTES] = -1, [THREADS] = 4};
static char *only_file; /* the one that errors, short replies, stalls and a size are about; NULL: all of them */
static char complaint[512];

static int is_fixed(int name) { return name == THREADS || name == READAHEAD_BYTES; }

static int find(const char *word, const char *equals) {
    for (int name = 0; name < OPTION_COUNT; name++)
        if (strncmp(word, option_names[name], (size_t)(equals - word)) == 0 &&
            option_names[name][equals - word] == 0)
            return name;
    return -1;
}

/* Into `into` and `*file`; what is no option, or no number, is complained of. */
static int parse(const char *word, int is_start, double *into, const char **file) {
    const char *equals = strchr(word, '=');
    if (equals && strncmp(word, "file=", 5) == 0) {
        *file = equals + 1;
        return 1;
    }
    int name = equals ? find(word, equals) : -1;
    if (name < 0) {
        snprintf(complaint, sizeof complaint, "%s: no option of the emulator", word);
        return 0;
    }
    char *rest;
    double value = strtod(equals + 1, &rest);
    double least = name == FILE_BYTES ? -1 : name == THREADS ? 1 : 0;
    double most = name == THREADS ? MAX_THREADS : INFINITY;
    if (*rest || rest == equals + 1 || !(value >= least && value <= most)) {
        snprintf(complaint, sizeof complaint, "%s: expected a number from %g to %g", word, least, most);
        return 0;
    }
    if (is_fixed(name) && !is_start) {
        snprintf(complaint, sizeof complaint, "%s: is fixed once mounted", word);
        return 0;
    }
    into[name] = value;
    return 1;
}

static int is_about(const struct node *node) { return !only_file || strcmp(only_file, node->relative) == 0; }

static int touches(const struct request *read, enum option from, enum option bytes) {
    return values[bytes] > 0 && (double)read->offset < values[from] + values[bytes] &&
           (double)read->offset + read->bytes > values[from] && is_about(read->handle->node);
}

static void sift_down(size_t at) {
    for (;;) {
        size_t least = at, left = 2 * at + 1;
        for (size_t child = left; child < waiting && child < left + 2; child++)
            if (heap[child]->due_ns < heap[least]->due_ns)
                least = child;
        if (least == at)
            return;
        struct request *moved = heap[at];
        heap[at] = heap[least];
        heap[least] = moved;
        at = least;
    }
}

/* Lets go of what the options no longer hold. */
static void release_stalled(void) {
    for (size_t at = 0; at < waiting; at++)
        if (heap[at]->is_stalled && !(values[STALL_S] > 0 && touches(heap[at], STALL_FROM, STALL_BYTES))) {
            heap[at]->is_stalled = 0;
            heap[at]->due_ns = heap[at]->unstalled_due_ns;
        }
    for (size_t at = waiting / 2; at-- > 0;)
        sift_down(at);
    pthread_cond_signal(&earliest);
}

const char *set_options(char **words, int count, int is_start) {
    double changed[OPTION_COUNT];
    const char *file = NULL;
    pthread_mutex_lock(&lock);
    memcpy(changed, values, sizeof values);
    int is_good = 1;
    for (int word = 0; word < count && is_good; word++)
        is_good = parse(words[word], is_start, changed, &file);
    if (is_good) {
        memcpy(values, changed, sizeof values);
        if (file) {
            free(only_file);
            only_file = *file ? strdup(file) : NULL;
        }
        release_stalled();
    }
    pthread_mutex_unlock(&lock);
    return is_good ? NULL : complaint;
}

double option(enum option name) {
    pthread_mutex_lock(&lock);
    double value = values[name];
    pthread_mutex_unlock(&lock);
    return value;
}

/* ---- Counts --------------------------------------------------------------------------------- */

static struct {
    uint64_t since_ns, changed_ns, requests, bytes, direct_requests, largest, errors, shorts;
    uint64_t in_flight_most, metadata, opens, direct_opens;
    double in_flight_ns; /* in flight, summed up over time */
} counts;
static uint64_t in_flight;

static void change_in_flight(int by) {
    uint64_t now = now_ns();
    counts.in_flight_ns += (double)in_flight * (double)(now - counts.changed_ns);
    counts.changed_ns = now;
    in_flight += (uint64_t)(int64_t)by;
    if (in_flight > counts.in_flight_most)
        counts.in_flight_most = in_flight;
}

void reset_counts(void) {
    pthread_mutex_lock(&lock);
    memset(&counts, 0, sizeof counts);
    counts.since_ns = counts.changed_ns = now_ns();
    counts.in_flight_most = in_flight;
    pthread_mutex_unlock(&lock);
}

void count_bytes(long bytes) {
    pthread_mutex_lock(&lock);
    counts.bytes += (uint64_t)bytes;
    pthread_mutex_unlock(&lock);
}

void count_open(int is_direct) {
    pthread_mutex_lock(&lock);
    counts.opens++;
    counts.direct_opens += is_direct != 0;
    pthread_mutex_unlock(&lock);
}

void print_counts(char *line, size_t bytes) {
    pthread_mutex_lock(&lock);
    change_in_flight(0);
    unsigned long stalled = 0;
    for (size_t at = 0; at < waiting; at++)
        stalled += heap[at]->is_stalled != 0;
    double elapsed_ns = (double)(counts.changed_ns - counts.since_ns);
    snprintf(line, bytes,
             "{\"seconds\": %.6f, \"requests\": %lu, \"bytes\": %lu, \"direct_requests\": %lu, "
             "\"largest_bytes\": %lu, \"in_flight\": %lu, \"in_flight_most\": %lu, \"in_flight_mean\": %.3f, "
             "\"stalled\": %lu, \"errors\": %lu, \"shorts\": %lu, \"metadata\": %lu, \"opens\": %lu, "
             "\"direct_opens\": %lu}",
             elapsed_ns / 1e9, counts.requests, counts.bytes, counts.direct_requests, counts.largest, in_flight,
             counts.in_flight_most, elapsed_ns > 0 ? counts.in_flight_ns / elapsed_ns : 0.0, stalled,
             counts.errors, counts.shorts, counts.metadata, counts.opens, counts.direct_opens);
    pthread_mutex_unlock(&lock);
}

/* ---- What a read gets ----------------------------------------------------------------------- */

/* One in `every`, by seed, file and offset: whatever order reads come in, and whoever asks again. */
static int is_chosen(const struct request *read, enum option every, uint64_t salt) {
    if (values[every] < 1 || !is_about(read->handle->node))
        return 0;
    uint64_t x = (uint64_t)values[SEED] * 0x9E3779B97F4A7C15u + read->handle->node->hash + read->offset + salt;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return x % (uint64_t)values[every] == 0;
}

static off_t limited(const struct node *node, off_t file_bytes) {
    if (values[FILE_BYTES] < 0 || !is_about(node) || (double)file_bytes <= values[FILE_BYTES])
        return file_bytes;
    return (off_t)values[FILE_BYTES];
}

off_t shown_bytes(const struct node *node, off_t file_bytes) {
    pthread_mutex_lock(&lock);
    off_t shown = limited(node, file_bytes);
    pthread_mutex_unlock(&lock);
    return shown;
}

static long outcome_locked(const struct request *read, off_t file_bytes) {
    if (values[REFUSE_DIRECT] > 0 && (read->flags & O_DIRECT))
        return -EINVAL;
    if (is_chosen(read, ERROR_EVERY, 1) || touches(read, ERROR_FROM, ERROR_BYTES)) {
        counts.errors++;
        return -EIO;
    }
    off_t left = limited(read->handle->node, file_bytes) - (off_t)read->offset;
    if (left <= 0)
        return 0;
    long bytes = left < (off_t)read->bytes ? (long)left : (long)read->bytes;
    if (!is_chosen(read, SHORT_EVERY, 2))
        return bytes;
    counts.shorts++;
    long fewer = values[SHORT_BYTES] > 0 ? (long)values[SHORT_BYTES] : bytes / 2;
    /* None at all would say that the file ends here. */
    return fewer < 1 ? 1 : fewer < bytes ? fewer : bytes;
}

long outcome(const struct request *read, off_t file_bytes) {
    pthread_mutex_lock(&lock);
    long bytes = outcome_locked(read, file_bytes);
    /* Before it is answered: the reader's next one may arrive before we come back from answering. */
    change_in_flight(-1);
    pthread_mutex_unlock(&lock);
    return bytes;
}

/* ---- When ----------------------------------------------------------------------------------- */

uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* When a link that is free from `*free_ns` on has carried bytes that can start at `start_ns`. */
static uint64_t carried(uint64_t *free_ns, uint64_t start_ns, uint32_t bytes, double bandwidth) {
    if (!(bandwidth > 0))
        return start_ns;
    if (*free_ns < start_ns)
        *free_ns = start_ns;
    *free_ns += (uint64_t)(bytes / bandwidth * 1e9);
    return *free_ns;
}

static void set_due(struct request *request, uint64_t now) {
    if (!request->handle) {
        request->due_ns = now + (uint64_t)(values[METADATA_MS] * 1e6);
        return;
    }
    uint64_t start = now + (uint64_t)(values[LATENCY_MS] * 1e6);
    uint64_t own = carried(&request->handle->free_ns, start, request->bytes, values[DESCRIPTOR_BANDWIDTH]);
    uint64_t all = carried(&all_free_ns, start, request->bytes, values[BANDWIDTH]);
    request->due_ns = request->unstalled_due_ns = own > all ? own : all;
    request->is_stalled = values[STALL_S] > 0 && touches(request, STALL_FROM, STALL_BYTES);
    if (request->is_stalled)
        request->due_ns = isinf(values[STALL_S]) ? NEVER : request->due_ns + (uint64_t)(values[STALL_S] * 1e9);
}

static void push(struct request *request) {
    if (waiting == room) {
        room = room ? 2 * room : 1024;
        heap = realloc(heap, room * sizeof *heap);
        if (!heap)
            abort();
    }
    size_t at = waiting++;
    for (; at > 0 && heap[(at - 1) / 2]->due_ns > request->due_ns; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = request;
    if (at == 0)
        pthread_cond_signal(is_led ? &earliest : &idle);
}

static struct request *pop(void) {
    struct request *first = heap[0];
    heap[0] = heap[--waiting];
    sift_down(0);
    return first;
}

void arrive(struct request *request) {
    pthread_mutex_lock(&lock);
    uint64_t now = now_ns();
    set_due(request, now);
    if (request->handle) {
        counts.requests++;
        counts.direct_requests += (request->flags & O_DIRECT) != 0;
        if (request->bytes > counts.largest)
            counts.largest = request->bytes;
        change_in_flight(+1);
    } else {
        counts.metadata++;
    }
    int is_due = request->due_ns <= now;
    if (!is_due)
        push(request);
    pthread_mutex_unlock(&lock);
    if (is_due)
        answer(request);
}

static void wait_until(uint64_t due_ns) {
    uint64_t latest = now_ns() + LONGEST_WAIT_NS;
    if (due_ns > latest)
        due_ns = latest;
    struct timespec time = {(time_t)(due_ns / 1000000000u), (long)(due_ns % 1000000000u)};
    pthread_cond_timedwait(&earliest, &lock, &time);
}

/* One thread waits for the first due time; the others sleep until it has something to answer. */
static void *answer_due(void *unused) {
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        if (waiting == 0 || is_led) {
            pthread_cond_wait(&idle, &lock);
        } else if (heap[0]->due_ns > now_ns()) {
            is_led = 1;
            wait_until(heap[0]->due_ns);
            is_led = 0;
        } else {
            struct request *request = pop();
            if (waiting > 0)
                pthread_cond_signal(&idle);
            pthread_mutex_unlock(&lock);
            answer(request);
            pthread_mutex_lock(&lock);
        }
    }
    return NULL;
}

void start_answering(int threads) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&earliest, &attributes);
    reset_counts();
    for (int thread = 0; thread < threads; thread++) {
        pthread_t started;
        if (pthread_create(&started, NULL, answer_due, NULL) != 0)
            abort();
    }
}
