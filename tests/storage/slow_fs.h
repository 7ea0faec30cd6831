/* What the parts of the emulator share. The path of a request:
 *
 *     kernel -> requests.c (receives it) -> pace.c (when is it due? what comes of it?) -> requests.c (answers it)
 *
 * and slow_fs.c mounts, takes orders and unmounts. All times are nanoseconds of CLOCK_MONOTONIC. */
#ifndef SLOW_FS_H
#define SLOW_FS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { REQUEST_BYTES = 1 << 20, REPLY_BYTES = 4096, MAX_THREADS = 64 };

/* In the order of option_names in pace.c, where README.md's words for them are repeated. */
enum option {
    LATENCY_MS, METADATA_MS, BANDWIDTH, DESCRIPTOR_BANDWIDTH,
    ERROR_EVERY, ERROR_FROM, ERROR_BYTES, SHORT_EVERY, SHORT_BYTES,
    STALL_FROM, STALL_BYTES, STALL_S, FILE_BYTES, REFUSE_DIRECT, SEED,
    THREADS, READAHEAD_BYTES, OPTION_COUNT
};

/* A file or folder that the kernel has asked for; stays for as long as the mount. */
struct node {
    char *path;     /* of what lies under it */
    char *relative; /* to the folder that is shown */
    uint64_t hash;  /* of the relative path: the same in every run */
};

/* An open file. Its reads hold it: the kernel releases it after the last one. */
struct handle {
    struct node *node;
    int file;
    uint64_t free_ns; /* when its own bandwidth has carried all that was asked for */
};

/* What was asked, and for anything but a read the answer, which is sent when it is due. */
struct request {
    uint64_t unique, due_ns, unstalled_due_ns;
    int device; /* where it came from: the kernel takes its answer nowhere else */
    int is_stalled;
    struct handle *handle; /* of a read, else NULL */
    uint64_t offset;
    uint32_t bytes, flags;
    int error;
    uint32_t reply_bytes;
    char reply[REPLY_BYTES];
};

/* pace.c */
uint64_t now_ns(void);
double option(enum option name);
/* "name=value" words; NULL, or why nothing was changed. `is_start`: those too that are fixed once mounted. */
const char *set_options(char **words, int count, int is_start);
/* Owns the request from here on: it is answered now, or when it is due. */
void arrive(struct request *request);
/* How many bytes a read that is due gets of the file, or -errno; it is no longer in flight. */
long outcome(const struct request *read, off_t file_bytes);
void count_bytes(long bytes);
void count_open(int is_direct);
/* A file's size as the options have it. */
off_t shown_bytes(const struct node *node, off_t file_bytes);
void start_answering(int threads);
void reset_counts(void);
/* One line of JSON. */
void print_counts(char *line, size_t bytes);

/* requests.c */
void open_root(const char *folder);
/* Threads that receive, each with its own descriptor of the mount that `device` belongs to; 0 or errno. */
int start_receiving(int device, int threads);
void answer(struct request *request);

/* slow_fs.c: unmounts and ends the process; what still waits for an answer gets an error. */
_Noreturn void end(int status);

#endif
