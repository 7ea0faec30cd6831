/* A libcufile.so.0 over host memory, for the stub of the driver beside it: reads of a registered file go
 * straight to a device address, which is a host address there. Stricter than the real one: reads want the
 * driver open, the handle registered and a context current; a descriptor has to be open when its handle is
 * given back, and handles are never used twice. See README.md. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    DRIVER_NOT_INITIALIZED = 5001,
    CUDA_CONTEXT_MISMATCH = 5015,
    INVALID_FILE_TYPE = 5018,
    DIO_NOT_SET = 5020,
    INVALID_VALUE = 5022,
    DRIVER_ALREADY_OPEN = 5026,
    HANDLE_NOT_REGISTERED = 5027,
    HANDLE_ALREADY_REGISTERED = 5028
};

enum { MAX_HANDLES = 4096, OPAQUE_DESCRIPTOR = 1 };

typedef struct {
    int err, cu_err;
} CUfileError_t;

typedef struct {
    int type;
    union {
        int fd;
        void *handle;
    } handle;
    const void *fs_ops;
} CUfileDescr_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int opened, handles[MAX_HANDLES]; /* a descriptor and one, 0 where there is none */
static long next_handle, live, reads, read_fault, read_code, open_fault, register_fault, short_bytes;

static CUfileError_t result(int err, int cu_err) {
    return (CUfileError_t){err, cu_err};
}

CUfileError_t cuFileDriverOpen(void) {
    pthread_mutex_lock(&lock);
    CUfileError_t answer = open_fault ? result((int)open_fault, 999)
                           : opened   ? result(DRIVER_ALREADY_OPEN, 0)
                                      : result(SUCCESS, 0);
    opened |= answer.err == SUCCESS;
    pthread_mutex_unlock(&lock);
    return answer;
}

static int registration_error(const CUfileDescr_t *description) {
    if (!opened) {
        return DRIVER_NOT_INITIALIZED;
    }
    if (register_fault) {
        return (int)register_fault;
    }
    if (description->type != OPAQUE_DESCRIPTOR || description->fs_ops || next_handle + 1 == MAX_HANDLES) {
        return INVALID_VALUE;
    }
    int flags = fcntl(description->handle.fd, F_GETFL);
    if (flags < 0) {
        return INVALID_FILE_TYPE;
    }
    if (!(flags & O_DIRECT)) {
        return DIO_NOT_SET;
    }
    for (long i = 1; i <= next_handle; i++) {
        if (handles[i] == description->handle.fd + 1) {
            return HANDLE_ALREADY_REGISTERED;
        }
    }
    return SUCCESS;
}

CUfileError_t cuFileHandleRegister(void **handle, CUfileDescr_t *description) {
    pthread_mutex_lock(&lock);
    int error = registration_error(description);
    if (!error) {
        handles[++next_handle] = description->handle.fd + 1;
        *handle = (void *)(intptr_t)next_handle;
        live++;
    }
    pthread_mutex_unlock(&lock);
    return result(error, 0);
}

void cuFileHandleDeregister(void *handle) {
    pthread_mutex_lock(&lock);
    long number = (long)(intptr_t)handle;
    if (number < 1 || number > next_handle || !handles[number] || fcntl(handles[number] - 1, F_GETFL) < 0) {
        fprintf(stderr, "stub libcufile: handle %ld is none, or its descriptor was closed before it\n", number);
        abort();
    }
    handles[number] = 0;
    live--;
    pthread_mutex_unlock(&lock);
}

/* The driver's stub is found by its name, once it has been loaded. */
static int in_context(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (!driver) {
        return 0;
    }
    int (*current)(void **) = (int (*)(void **))dlsym(driver, "cuCtxGetCurrent");
    void *context = NULL;
    int found = current && current(&context) == 0 && context;
    dlclose(driver);
    return found;
}

ssize_t cuFileRead(void *handle, void *base, size_t bytes, off_t file_offset, off_t base_offset) {
    pthread_mutex_lock(&lock);
    long number = (long)(intptr_t)handle;
    int fd = number >= 1 && number <= next_handle ? handles[number] - 1 : -1;
    long code = 0;
    if (++reads == read_fault) {
        code = read_code;
    } else if (!opened) {
        code = -DRIVER_NOT_INITIALIZED;
    } else if (fd < 0) {
        code = -HANDLE_NOT_REGISTERED;
    }
    size_t wanted = short_bytes && bytes > (size_t)short_bytes ? (size_t)short_bytes : bytes;
    pthread_mutex_unlock(&lock);
    if (code > 0) {
        errno = (int)code;
        return -1;
    }
    if (code < 0) {
        return code;
    }
    if (!in_context()) {
        return -CUDA_CONTEXT_MISMATCH;
    }
    /* Any offset and any address will do, as for the real one, which has buffers of its own for the ends. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int buffered = open(path, O_RDONLY | O_CLOEXEC);
    if (buffered < 0) {
        return -1;
    }
    ssize_t got = pread(buffered, (char *)base + base_offset, wanted, file_offset);
    close(buffered);
    return got;
}

/* ---- For tests -------------------------------------------------------------------------------- */

long stub_cufile_live(void) {
    return live;
}

long stub_cufile_reads(void) {
    return reads;
}

/* The nth read from now on fails: with an errno, or less than 0 with an error of libcufile, negated. */
void stub_cufile_fail_read(long nth, long code) {
    pthread_mutex_lock(&lock);
    read_fault = reads + nth;
    read_code = code;
    pthread_mutex_unlock(&lock);
}

void stub_cufile_fail_open(long code) {
    open_fault = code;
}

void stub_cufile_fail_register(long code) {
    register_fault = code;
}

/* What one read brings at most; 0: all. */
void stub_cufile_short_reads(long bytes) {
    short_bytes = bytes;
}

void stub_cufile_reset(void) {
    pthread_mutex_lock(&lock);
    reads = read_fault = read_code = open_fault = register_fault = short_bytes = 0;
    pthread_mutex_unlock(&lock);
}
