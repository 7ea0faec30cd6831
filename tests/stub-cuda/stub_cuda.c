/* A libcuda.so.1 over host memory: the driver functions that the engine calls, checked more strictly
 * than the real one checks them, with copies that really are asynchronous. See README.md beside it.
 *
 * One lock guards all state. A worker thread per stream runs its queue; bytes are copied outside the
 * lock. Handles of streams, events and contexts are numbers that are never used twice, so that every
 * use after destruction is seen. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef void *CUcontext;
typedef void *CUstream;
typedef void *CUevent;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_READY = 600,
    CONTEXT_IS_DESTROYED = 709,
    HOST_MEMORY_ALREADY_REGISTERED = 712
};

enum { MAX_DEVICES = 16, MAX_STACK = 32, MAX_FAULTS = 64, MAX_FUNCTIONS = 64, NAME_BYTES = 64, PAGE_BYTES = 4096 };

/* What a fresh slab holds: whatever was not copied to it shows. */
static const size_t POISON_BYTES = 64u << 20;
static const int POISON = 0xCD;

/* ---- State ---------------------------------------------------------------------------------- */

/* One recording of an event; counted, since waits outlive events. */
struct mark {
    int references, passed;
};

struct event {
    struct event *next;
    uintptr_t handle;
    struct context *context;
    struct mark *last; /* NULL until it is recorded */
};

struct allocation {
    struct allocation *next;
    char *address;
    size_t bytes;
    int device, pinned, registered;
    int copies; /* queued or running, to it or from it */
};

enum kind { COPY, PASS, WAIT };

struct operation {
    struct operation *next;
    enum kind kind;
    char *target;
    const char *source;
    size_t bytes;
    void *own_source; /* a copy of pageable memory, as the driver makes one */
    struct allocation *to, *from;
    struct mark *mark;
};

struct stream {
    struct stream *next;
    uintptr_t handle;
    struct context *context;
    struct operation *first, **last;
    int running, destroyed;
};

struct context {
    struct context *next;
    uintptr_t handle;
    int device, retained, alive;
    struct stream *default_stream;
};

struct fault {
    char name[NAME_BYTES];
    long nth, code;
};

struct function {
    char name[NAME_BYTES];
    long calls;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int initialised, device_count;
static long delay_us;
static size_t memory_bytes, used_bytes[MAX_DEVICES];
static uintptr_t next_handle = 0x10000;
static struct event *events;
static struct allocation *allocations;
static struct stream *streams;
static struct context *contexts;
static struct fault faults[MAX_FAULTS];
static int fault_count;
static struct function functions[MAX_FUNCTIONS];
static int function_count;

static __thread struct context *stack[MAX_STACK];
static __thread int depth;

/* ---- Faults on demand ----------------------------------------------------------------------- */

static void add_fault(const char *name, long nth, long code) {
    if (fault_count == MAX_FAULTS || strlen(name) >= NAME_BYTES || nth < 1) {
        fprintf(stderr, "stub libcuda: bad fault %s:%ld:%ld\n", name, nth, code);
        abort();
    }
    struct fault *fault = &faults[fault_count++];
    strcpy(fault->name, name);
    fault->nth = nth;
    fault->code = code;
}

/* cuMemcpyHtoDAsync:3:999,cuMemAlloc:1:2 */
static void parse_faults(const char *text) {
    while (*text) {
        char name[NAME_BYTES];
        long nth, code;
        int length = 0;
        if (sscanf(text, "%63[^:]:%ld:%ld%n", name, &nth, &code, &length) != 3
            || (text[length] && text[length] != ',')) {
            fprintf(stderr, "stub libcuda: STUB_CUDA_FAIL: expected name:nth:code, found %s\n", text);
            abort();
        }
        add_fault(name, nth, code);
        text += length + (text[length] == ',');
    }
}

static long number_of(const char *variable, long otherwise) {
    const char *text = getenv(variable);
    return text && *text ? atol(text) : otherwise;
}

static void read_environment(void) {
    device_count = (int)number_of("STUB_CUDA_DEVICES", 1);
    memory_bytes = (size_t)number_of("STUB_CUDA_MEMORY_BYTES", 4l << 30);
    delay_us = number_of("STUB_CUDA_DELAY_US", 0);
    const char *text = getenv("STUB_CUDA_FAIL");
    if (text) {
        parse_faults(text);
    }
}

/* Every function begins here: takes the lock, counts the call, and tells what code it is to fail with. */
static CUresult begin(const char *name) {
    pthread_once(&once, read_environment);
    pthread_mutex_lock(&lock);
    int at = 0;
    while (at < function_count && strcmp(functions[at].name, name)) {
        at++;
    }
    if (at == function_count) {
        strcpy(functions[function_count++].name, name); /* never full: there are fewer functions */
    }
    functions[at].calls++;
    CUresult code = SUCCESS;
    for (int i = fault_count - 1; i >= 0; i--) {
        if (!strcmp(faults[i].name, name) && --faults[i].nth == 0) {
            code = (CUresult)faults[i].code;
            faults[i] = faults[--fault_count];
        }
    }
    return code;
}

static CUresult end(CUresult result) {
    pthread_mutex_unlock(&lock);
    return result;
}

/* For functions that give something back: they have done so, and then report the fault, as the driver
 * does with errors of earlier, asynchronous work. */
static CUresult end_release(CUresult fault, CUresult result) {
    return end(result == SUCCESS ? fault : result);
}

/* ---- Contexts ------------------------------------------------------------------------------- */

static uintptr_t new_handle(void) {
    return next_handle += 16;
}

static struct context *context_of(uintptr_t handle) {
    struct context *context = contexts;
    while (context && context->handle != handle) {
        context = context->next;
    }
    return context;
}

static CUresult current(struct context **out) {
    if (!initialised) {
        return NOT_INITIALIZED;
    }
    if (!depth || !stack[depth - 1]) {
        return INVALID_CONTEXT;
    }
    *out = stack[depth - 1];
    return (*out)->alive ? SUCCESS : CONTEXT_IS_DESTROYED;
}

/* Fault first, then whether a context is current. */
static CUresult begin_in_context(const char *name, struct context **context) {
    CUresult fault = begin(name);
    return fault ? fault : current(context);
}

CUresult cuInit(unsigned flags) {
    CUresult fault = begin("cuInit");
    if (fault || flags) {
        return end(fault ? fault : INVALID_VALUE);
    }
    initialised = 1;
    return end(SUCCESS);
}

CUresult cuDeviceGetCount(int *count) {
    CUresult fault = begin("cuDeviceGetCount");
    if (fault || !initialised) {
        return end(fault ? fault : NOT_INITIALIZED);
    }
    *count = device_count;
    return end(SUCCESS);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    CUresult fault = begin("cuDeviceGet");
    if (fault || !initialised) {
        return end(fault ? fault : NOT_INITIALIZED);
    }
    if (ordinal < 0 || ordinal >= device_count) {
        return end(INVALID_DEVICE);
    }
    *device = ordinal;
    return end(SUCCESS);
}

CUresult cuDriverGetVersion(int *version) {
    CUresult fault = begin("cuDriverGetVersion");
    if (fault) {
        return end(fault);
    }
    *version = 12060;
    return end(SUCCESS);
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
    CUresult fault = begin("cuDeviceGetName");
    if (fault || device < 0 || device >= device_count) {
        return end(fault ? fault : INVALID_DEVICE);
    }
    snprintf(name, (size_t)bytes, "Stub GPU %d", device);
    return end(SUCCESS);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    CUresult fault = begin("cuDeviceTotalMem");
    if (fault || device < 0 || device >= device_count) {
        return end(fault ? fault : INVALID_DEVICE);
    }
    *bytes = memory_bytes;
    return end(SUCCESS);
}

static struct context *primary_of(CUdevice device) {
    struct context *context = contexts;
    while (context && !(context->alive && context->device == device)) {
        context = context->next;
    }
    return context;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
    CUresult fault = begin("cuDevicePrimaryCtxRetain");
    if (fault || !initialised) {
        return end(fault ? fault : NOT_INITIALIZED);
    }
    if (device < 0 || device >= device_count || device >= MAX_DEVICES) {
        return end(INVALID_DEVICE);
    }
    struct context *context = primary_of(device);
    if (!context) {
        context = calloc(1, sizeof *context);
        context->handle = new_handle();
        context->device = device;
        context->alive = 1;
        context->next = contexts;
        contexts = context;
    }
    context->retained++;
    *out = (CUcontext)context->handle;
    return end(SUCCESS);
}

static void destroy(struct stream *stream);

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    CUresult fault = begin("cuDevicePrimaryCtxRelease");
    struct context *context = primary_of(device);
    if (!context) {
        return end(INVALID_CONTEXT);
    }
    if (--context->retained == 0) {
        context->alive = 0;
        if (context->default_stream) {
            destroy(context->default_stream);
            context->default_stream = NULL;
        }
    }
    return end_release(fault, SUCCESS);
}

CUresult cuCtxPushCurrent_v2(CUcontext handle) {
    CUresult fault = begin("cuCtxPushCurrent");
    struct context *context = context_of((uintptr_t)handle);
    if (fault || !context || depth == MAX_STACK) {
        return end(fault ? fault : INVALID_CONTEXT);
    }
    if (!context->alive) {
        return end(CONTEXT_IS_DESTROYED);
    }
    stack[depth++] = context;
    return end(SUCCESS);
}

CUresult cuCtxPopCurrent_v2(CUcontext *out) {
    CUresult fault = begin("cuCtxPopCurrent");
    if (!depth) {
        return end(INVALID_CONTEXT);
    }
    depth--;
    if (out) {
        *out = stack[depth] ? (CUcontext)stack[depth]->handle : NULL;
    }
    return end_release(fault, SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *out) {
    CUresult fault = begin("cuCtxGetCurrent");
    if (!fault) {
        *out = depth && stack[depth - 1] ? (CUcontext)stack[depth - 1]->handle : NULL;
    }
    return end(fault);
}

/* Replaces the top of the stack, as the driver's does. */
CUresult cuCtxSetCurrent(CUcontext handle) {
    CUresult fault = begin("cuCtxSetCurrent");
    struct context *context = context_of((uintptr_t)handle);
    if (fault || (handle && !context)) {
        return end(fault ? fault : INVALID_CONTEXT);
    }
    if (!depth) {
        depth = 1;
    }
    stack[depth - 1] = context;
    if (!context && depth == 1) {
        depth = 0;
    }
    return end(SUCCESS);
}

/* ---- Memory --------------------------------------------------------------------------------- */

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    struct context *context;
    CUresult result = begin_in_context("cuMemGetInfo", &context);
    if (result) {
        return end(result);
    }
    size_t used = used_bytes[context->device];
    *free_bytes = used < memory_bytes ? memory_bytes - used : 0;
    *total_bytes = memory_bytes;
    return end(SUCCESS);
}

static void enlist(struct allocation *made, int device, int pinned, size_t bytes) {
    memset(made->address, POISON, bytes < POISON_BYTES ? bytes : POISON_BYTES);
    made->bytes = bytes;
    made->device = device;
    made->pinned = pinned;
    made->next = allocations;
    allocations = made;
}

static CUresult allocate(int device, int pinned, size_t bytes, void **out) {
    struct allocation *made = calloc(1, sizeof *made);
    if (!bytes) {
        free(made);
        return INVALID_VALUE;
    }
    if ((!pinned && (used_bytes[device] > memory_bytes || bytes > memory_bytes - used_bytes[device]))
        || posix_memalign((void **)&made->address, PAGE_BYTES, bytes)) {
        free(made);
        return OUT_OF_MEMORY;
    }
    enlist(made, device, pinned, bytes);
    if (!pinned) {
        used_bytes[device] += bytes;
    }
    *out = made->address;
    return SUCCESS;
}

/* Out of the list first, so that of two who free it at once one is refused; then waits for the copies
 * that use it, as the driver does. */
static CUresult release(int pinned, int registered, void *address) {
    struct allocation **link = &allocations;
    while (*link
           && ((*link)->address != address || (*link)->pinned != pinned || (*link)->registered != registered)) {
        link = &(*link)->next;
    }
    struct allocation *found = *link;
    if (!found) {
        return INVALID_VALUE;
    }
    *link = found->next;
    while (found->copies) {
        pthread_cond_wait(&changed, &lock);
    }
    if (!pinned) {
        used_bytes[found->device] -= found->bytes;
    }
    if (!registered) {
        free(found->address);
    }
    free(found);
    return SUCCESS;
}

static struct allocation *allocation_of(const char *address, size_t bytes, int pinned) {
    struct allocation *at = allocations;
    while (at
           && (at->pinned != pinned || address < at->address || address > at->address + at->bytes
               || bytes > (size_t)(at->address + at->bytes - address))) {
        at = at->next;
    }
    return at;
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) {
    struct context *context;
    void *address = NULL;
    CUresult result = begin_in_context("cuMemAlloc", &context);
    if (!result) {
        result = allocate(context->device, 0, bytes, &address);
        *out = (CUdeviceptr)(uintptr_t)address;
    }
    return end(result);
}

CUresult cuMemFree_v2(CUdeviceptr address) {
    struct context *context;
    CUresult fault = begin("cuMemFree");
    CUresult result = current(&context);
    return end_release(fault, result ? result : release(0, 0, (void *)(uintptr_t)address));
}

CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
    struct context *context;
    CUresult result = begin_in_context("cuMemHostAlloc", &context);
    if (!result) {
        result = flags > 7 ? INVALID_VALUE : allocate(context->device, 1, bytes, out);
    }
    return end(result);
}

CUresult cuMemFreeHost(void *address) {
    struct context *context;
    CUresult fault = begin("cuMemFreeHost");
    CUresult result = current(&context);
    return end_release(fault, result ? result : release(1, 0, address));
}

CUresult cuMemHostRegister_v2(void *address, size_t bytes, unsigned flags) {
    struct context *context;
    CUresult result = begin_in_context("cuMemHostRegister", &context);
    if (result) {
        return end(result);
    }
    for (struct allocation *at = allocations; at; at = at->next) {
        if (at->pinned && (char *)address < at->address + at->bytes && at->address < (char *)address + bytes) {
            return end(HOST_MEMORY_ALREADY_REGISTERED);
        }
    }
    if (flags > 15 || !address || !bytes) {
        return end(INVALID_VALUE);
    }
    struct allocation *made = calloc(1, sizeof *made);
    made->address = address;
    made->registered = 1;
    enlist(made, context->device, 1, bytes);
    return end(SUCCESS);
}

CUresult cuMemHostUnregister(void *address) {
    struct context *context;
    CUresult fault = begin("cuMemHostUnregister");
    CUresult result = current(&context);
    return end_release(fault, result ? result : release(1, 1, address));
}

/* ---- Streams and events --------------------------------------------------------------------- */

static void drop(struct mark *mark) {
    if (mark && --mark->references == 0) {
        free(mark);
    }
}

/* Runs one operation; called and left with the lock held. */
static void run(struct operation *operation) {
    if (operation->kind == COPY) {
        long wait_us = delay_us;
        pthread_mutex_unlock(&lock);
        if (wait_us > 0) {
            usleep((useconds_t)wait_us);
        }
        memcpy(operation->target, operation->source, operation->bytes);
        pthread_mutex_lock(&lock);
        operation->to->copies--;
        if (operation->from) {
            operation->from->copies--;
        }
    } else if (operation->kind == PASS) {
        operation->mark->passed = 1;
    } else {
        while (!operation->mark->passed) {
            pthread_cond_wait(&changed, &lock);
        }
    }
    drop(operation->mark);
    free(operation->own_source);
    free(operation);
    pthread_cond_broadcast(&changed);
}

static void *work(void *argument) {
    struct stream *stream = argument;
    pthread_mutex_lock(&lock);
    for (;;) {
        struct operation *operation = stream->first;
        if (operation) {
            stream->first = operation->next;
            if (!stream->first) {
                stream->last = &stream->first;
            }
            stream->running = 1;
            run(operation);
            stream->running = 0;
            pthread_cond_broadcast(&changed);
        } else if (stream->destroyed) {
            free(stream);
            pthread_mutex_unlock(&lock);
            return NULL;
        } else {
            pthread_cond_wait(&changed, &lock);
        }
    }
}

static struct stream *new_stream(struct context *context) {
    pthread_t thread;
    struct stream *stream = calloc(1, sizeof *stream);
    stream->handle = new_handle();
    stream->context = context;
    stream->last = &stream->first;
    if (pthread_create(&thread, NULL, work, stream)) {
        free(stream);
        return NULL;
    }
    pthread_detach(thread);
    return stream;
}

/* The worker runs what is queued and then frees the stream. */
static void destroy(struct stream *stream) {
    stream->destroyed = 1;
    pthread_cond_broadcast(&changed);
}

/* 0, 1 and 2 are the default streams, here one. NULL where the handle is no stream of this context. */
static struct stream *stream_of(CUstream handle, struct context *context) {
    if ((uintptr_t)handle <= 2) {
        if (!context->default_stream) {
            context->default_stream = new_stream(context);
        }
        return context->default_stream;
    }
    struct stream *stream = streams;
    while (stream && (stream->handle != (uintptr_t)handle || stream->context != context)) {
        stream = stream->next;
    }
    return stream;
}

static struct event *event_of(CUevent handle, struct context *context) {
    struct event *event = events;
    while (event && (event->handle != (uintptr_t)handle || event->context != context)) {
        event = event->next;
    }
    return event;
}

static struct operation *enqueue(struct stream *stream, enum kind kind, struct mark *mark) {
    struct operation *operation = calloc(1, sizeof *operation);
    operation->kind = kind;
    operation->mark = mark;
    if (mark) {
        mark->references++;
    }
    *stream->last = operation;
    stream->last = &operation->next;
    pthread_cond_broadcast(&changed);
    return operation;
}

CUresult cuStreamCreate(CUstream *out, unsigned flags) {
    struct context *context;
    CUresult result = begin_in_context("cuStreamCreate", &context);
    struct stream *stream;
    if (result || flags > 1) {
        return end(result ? result : INVALID_VALUE);
    }
    if (!(stream = new_stream(context))) {
        return end(OUT_OF_MEMORY);
    }
    stream->next = streams;
    streams = stream;
    *out = (CUstream)stream->handle;
    return end(SUCCESS);
}

CUresult cuStreamDestroy_v2(CUstream handle) {
    struct context *context;
    CUresult fault = begin("cuStreamDestroy");
    CUresult result = current(&context);
    if (result) {
        return end(result);
    }
    struct stream **link = &streams;
    while (*link && (*link)->handle != (uintptr_t)handle) {
        link = &(*link)->next;
    }
    if (!*link) {
        return end(INVALID_HANDLE);
    }
    struct stream *stream = *link;
    *link = stream->next;
    destroy(stream);
    return end_release(fault, SUCCESS);
}

CUresult cuStreamSynchronize(CUstream handle) {
    struct context *context;
    CUresult result = begin_in_context("cuStreamSynchronize", &context);
    struct stream *stream = result ? NULL : stream_of(handle, context);
    if (!stream) {
        return end(result ? result : INVALID_HANDLE);
    }
    while (stream->first || stream->running) {
        pthread_cond_wait(&changed, &lock);
    }
    return end(SUCCESS);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void *source, size_t bytes, CUstream handle) {
    struct context *context;
    CUresult result = begin_in_context("cuMemcpyHtoDAsync", &context);
    struct stream *stream = result ? NULL : stream_of(handle, context);
    if (!stream) {
        return end(result ? result : INVALID_HANDLE);
    }
    struct allocation *to = allocation_of((char *)(uintptr_t)target, bytes, 0);
    if (!to || to->device != context->device) {
        return end(INVALID_VALUE);
    }
    struct operation *operation = enqueue(stream, COPY, NULL);
    operation->target = (char *)(uintptr_t)target;
    operation->source = source;
    operation->bytes = bytes;
    operation->to = to;
    operation->from = allocation_of(source, bytes, 1);
    to->copies++;
    if (operation->from) {
        operation->from->copies++;
    } else {
        operation->own_source = malloc(bytes);
        memcpy(operation->own_source, source, bytes);
        operation->source = operation->own_source;
    }
    return end(SUCCESS);
}

CUresult cuEventCreate(CUevent *out, unsigned flags) {
    struct context *context;
    CUresult result = begin_in_context("cuEventCreate", &context);
    if (result || flags > 7) {
        return end(result ? result : INVALID_VALUE);
    }
    struct event *event = calloc(1, sizeof *event);
    event->handle = new_handle();
    event->context = context;
    event->next = events;
    events = event;
    *out = (CUevent)event->handle;
    return end(SUCCESS);
}

CUresult cuEventDestroy_v2(CUevent handle) {
    struct context *context;
    CUresult fault = begin("cuEventDestroy");
    CUresult result = current(&context);
    if (result) {
        return end(result);
    }
    struct event **link = &events;
    while (*link && (*link)->handle != (uintptr_t)handle) {
        link = &(*link)->next;
    }
    if (!*link) {
        return end(INVALID_HANDLE);
    }
    struct event *event = *link;
    *link = event->next;
    drop(event->last);
    free(event);
    return end_release(fault, SUCCESS);
}

CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
    struct context *context;
    CUresult result = begin_in_context("cuEventRecord", &context);
    struct event *event = result ? NULL : event_of(handle, context);
    struct stream *stream = event ? stream_of(stream_handle, context) : NULL;
    if (!stream) {
        return end(result ? result : INVALID_HANDLE);
    }
    drop(event->last);
    event->last = calloc(1, sizeof *event->last);
    event->last->references = 1;
    enqueue(stream, PASS, event->last);
    return end(SUCCESS);
}

CUresult cuEventQuery(CUevent handle) {
    struct context *context;
    CUresult result = begin_in_context("cuEventQuery", &context);
    struct event *event = result ? NULL : event_of(handle, context);
    if (!event) {
        return end(result ? result : INVALID_HANDLE);
    }
    return end(!event->last || event->last->passed ? SUCCESS : NOT_READY);
}

CUresult cuEventSynchronize(CUevent handle) {
    struct context *context;
    CUresult result = begin_in_context("cuEventSynchronize", &context);
    struct event *event = result ? NULL : event_of(handle, context);
    if (!event) {
        return end(result ? result : INVALID_HANDLE);
    }
    struct mark *mark = event->last;
    if (mark) {
        mark->references++;
        while (!mark->passed) {
            pthread_cond_wait(&changed, &lock);
        }
        drop(mark);
    }
    return end(SUCCESS);
}

CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned flags) {
    struct context *context;
    CUresult result = begin_in_context("cuStreamWaitEvent", &context);
    struct event *event = result ? NULL : event_of(handle, context);
    struct stream *stream = event ? stream_of(stream_handle, context) : NULL;
    if (!stream || flags) {
        return end(result ? result : flags ? INVALID_VALUE : INVALID_HANDLE);
    }
    if (event->last && !event->last->passed) {
        enqueue(stream, WAIT, event->last);
    }
    return end(SUCCESS);
}

/* ---- Control, for tests --------------------------------------------------------------------- */

#define LOCKED(type, name, expression) \
    type name(void) { \
        pthread_once(&once, read_environment); \
        pthread_mutex_lock(&lock); \
        type value = (expression); \
        pthread_mutex_unlock(&lock); \
        return value; \
    }

static long live_allocations(int pinned) {
    long count = 0;
    for (struct allocation *at = allocations; at; at = at->next) {
        count += at->pinned == pinned;
    }
    return count;
}

static long live_streams(void) {
    long count = 0;
    for (struct stream *at = streams; at; at = at->next) {
        count++;
    }
    return count;
}

static long live_events(void) {
    long count = 0;
    for (struct event *at = events; at; at = at->next) {
        count++;
    }
    return count;
}

static long retained_contexts(void) {
    long count = 0;
    for (struct context *at = contexts; at; at = at->next) {
        count += at->retained;
    }
    return count;
}

static long all_used_bytes(void) {
    size_t sum = 0;
    for (int i = 0; i < MAX_DEVICES; i++) {
        sum += used_bytes[i];
    }
    return (long)sum;
}

LOCKED(long, stub_cuda_live_allocations, live_allocations(0))
LOCKED(long, stub_cuda_live_pinned, live_allocations(1))
LOCKED(long, stub_cuda_live_streams, live_streams())
LOCKED(long, stub_cuda_live_events, live_events())
LOCKED(long, stub_cuda_retained_contexts, retained_contexts())
LOCKED(long, stub_cuda_used_bytes, all_used_bytes())
LOCKED(long, stub_cuda_pending_faults, fault_count)

long stub_cuda_calls(const char *name) {
    long calls = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < function_count; i++) {
        if (!strcmp(functions[i].name, name)) {
            calls = functions[i].calls;
        }
    }
    pthread_mutex_unlock(&lock);
    return calls;
}

void stub_cuda_fail(const char *name, long nth, long code) {
    pthread_once(&once, read_environment);
    pthread_mutex_lock(&lock);
    add_fault(name, nth, code);
    pthread_mutex_unlock(&lock);
}

void stub_cuda_delay_us(long microseconds) {
    pthread_once(&once, read_environment);
    pthread_mutex_lock(&lock);
    delay_us = microseconds;
    pthread_mutex_unlock(&lock);
}

void stub_cuda_memory_bytes(long bytes) {
    pthread_once(&once, read_environment);
    pthread_mutex_lock(&lock);
    memory_bytes = (size_t)bytes;
    pthread_mutex_unlock(&lock);
}

void stub_cuda_devices(int count) {
    pthread_once(&once, read_environment);
    pthread_mutex_lock(&lock);
    device_count = count;
    pthread_mutex_unlock(&lock);
}

/* Forgets faults and call counts, and reads the environment again. What is live stays so. */
void stub_cuda_reset(void) {
    pthread_once(&once, read_environment);
    pthread_mutex_lock(&lock);
    fault_count = 0;
    function_count = 0;
    memset(functions, 0, sizeof functions);
    read_environment();
    pthread_mutex_unlock(&lock);
}
