/* The kernel's side of it: what FUSE asks of a read-only file system over a folder, and how it is told.
 *
 * Files are opened with FOPEN_KEEP_CACHE, and buffered reads go through the page cache, as on a network mount: an
 * open leaves the cache as it was, O_DIRECT goes past it. With short replies it is FOPEN_DIRECT_IO instead, since
 * otherwise none would reach a reader: of a cached file the kernel takes a short reply for the new end of the file,
 * and what a short direct read lacks it fetches through the cache itself. */
#define _GNU_SOURCE
#include "slow_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

/* Or a close would fail once we are gone. Younger than some headers; older kernels pass over it. */
#ifndef FOPEN_NOFLUSH
#define FOPEN_NOFLUSH (1 << 5)
#endif

/* Direct reads in flight count as background ones: the kernel's 12 would hold them up. */
enum { MOST_IN_BACKGROUND = 65535, WRITE_BYTES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node **nodes; /* a node's number is its place here, and 1 */
static size_t node_count, node_room;

/* ---- Nodes ---------------------------------------------------------------------------------- */

static uint64_t hash_of(const char *text) {
    uint64_t hash = 14695981039346656037u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

static struct node *node_of(uint64_t number) {
    pthread_mutex_lock(&lock);
    struct node *node = nodes[number - 1];
    pthread_mutex_unlock(&lock);
    return node;
}

/* The number of a path's node, which is made where there is none. Takes both texts. */
static uint64_t number_of(char *path, char *relative) {
    pthread_mutex_lock(&lock);
    size_t at = 0;
    while (at < node_count && strcmp(nodes[at]->path, path) != 0)
        at++;
    if (at < node_count) {
        free(path);
        free(relative);
    } else {
        if (node_count == node_room) {
            node_room = node_room ? 2 * node_room : 64;
            nodes = realloc(nodes, node_room * sizeof *nodes);
        }
        struct node *made = malloc(sizeof *made);
        if (!nodes || !made || !path || !relative)
            abort();
        *made = (struct node){path, relative, hash_of(relative)};
        nodes[node_count++] = made;
    }
    pthread_mutex_unlock(&lock);
    return at + 1;
}

void open_root(const char *folder) { number_of(strdup(folder), strdup("")); }

static void fill(struct fuse_attr *attr, const struct node *node, const struct stat *found) {
    attr->ino = found->st_ino;
    attr->size = (uint64_t)(S_ISREG(found->st_mode) ? shown_bytes(node, found->st_size) : found->st_size);
    attr->blocks = (attr->size + 511) / 512;
    attr->atime = (uint64_t)found->st_atim.tv_sec;
    attr->mtime = (uint64_t)found->st_mtim.tv_sec;
    attr->ctime = (uint64_t)found->st_ctim.tv_sec;
    attr->mtimensec = (uint32_t)found->st_mtim.tv_nsec;
    attr->ctimensec = (uint32_t)found->st_ctim.tv_nsec;
    attr->mode = found->st_mode;
    attr->nlink = (uint32_t)found->st_nlink;
    attr->uid = found->st_uid;
    attr->gid = found->st_gid;
    attr->blksize = (uint32_t)found->st_blksize;
}

/* ---- Answers: 0 or errno, with the reply in the request -------------------------------------- */

static void *reply_of(struct request *request, size_t bytes) {
    request->reply_bytes = (uint32_t)bytes;
    return memset(request->reply, 0, bytes);
}

static int on_init(struct request *request, const struct fuse_init_in *in) {
    struct fuse_init_out *out = reply_of(request, sizeof *out);
    out->major = FUSE_KERNEL_VERSION;
    out->minor = in->minor < FUSE_KERNEL_MINOR_VERSION ? in->minor : FUSE_KERNEL_MINOR_VERSION;
    out->flags = in->flags & (FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES);
    double readahead = option(READAHEAD_BYTES);
    out->max_readahead = readahead > 0 ? (uint32_t)readahead : in->max_readahead;
    out->max_background = out->congestion_threshold = MOST_IN_BACKGROUND;
    out->max_write = WRITE_BYTES;
    out->time_gran = 1;
    out->max_pages = (uint16_t)(REQUEST_BYTES / sysconf(_SC_PAGESIZE));
    return 0;
}

static int on_lookup(struct request *request, const struct node *parent, const char *name) {
    char *path, *relative;
    struct stat found;
    if (asprintf(&path, "%s/%s", parent->path, name) < 0 ||
        asprintf(&relative, "%s%s%s", parent->relative, *parent->relative ? "/" : "", name) < 0)
        return ENOMEM;
    /* Links are followed: a folder of links into another one shows files. */
    if (stat(path, &found) != 0) {
        int error = errno;
        free(path);
        free(relative);
        return error;
    }
    struct fuse_entry_out *out = reply_of(request, sizeof *out);
    out->nodeid = number_of(path, relative);
    /* Neither names nor attributes are kept: a size that changes is seen by the next who asks. */
    fill(&out->attr, node_of(out->nodeid), &found);
    return 0;
}

static int on_getattr(struct request *request, const struct node *node) {
    struct stat found;
    if (stat(node->path, &found) != 0)
        return errno;
    struct fuse_attr_out *out = reply_of(request, sizeof *out);
    fill(&out->attr, node, &found);
    return 0;
}

static int on_open(struct request *request, struct node *node, const struct fuse_open_in *in) {
    if (option(REFUSE_DIRECT) > 0 && (in->flags & O_DIRECT))
        return EINVAL;
    int file = open(node->path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    struct handle *handle = calloc(1, sizeof *handle);
    if (!handle)
        abort();
    handle->node = node;
    handle->file = file;
    count_open((in->flags & O_DIRECT) != 0);
    struct fuse_open_out *out = reply_of(request, sizeof *out);
    out->fh = (uintptr_t)handle;
    out->open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH | (option(SHORT_EVERY) > 0 ? FOPEN_DIRECT_IO : 0);
    return 0;
}

static int on_release(const struct fuse_release_in *in) {
    struct handle *handle = (struct handle *)(uintptr_t)in->fh;
    close(handle->file);
    free(handle);
    return 0;
}

static int on_readdir(struct request *request, const struct node *node, const struct fuse_read_in *in) {
    DIR *folder = opendir(node->path);
    if (!folder)
        return errno;
    size_t room = in->size < REPLY_BYTES ? in->size : REPLY_BYTES, used = 0;
    memset(request->reply, 0, sizeof request->reply);
    struct dirent *entry;
    for (uint64_t place = 1; (entry = readdir(folder)); place++) {
        size_t length = strlen(entry->d_name), bytes = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);
        if (place <= in->offset)
            continue;
        if (used + bytes > room)
            break;
        struct fuse_dirent *out = (struct fuse_dirent *)(request->reply + used);
        *out = (struct fuse_dirent){.ino = entry->d_ino, .off = place, .namelen = (uint32_t)length};
        memcpy(out->name, entry->d_name, length);
        used += bytes;
    }
    closedir(folder);
    request->reply_bytes = (uint32_t)used;
    return 0;
}

static int on_statfs(struct request *request, const struct node *node) {
    struct statvfs found;
    if (statvfs(node->path, &found) != 0)
        return errno;
    struct fuse_statfs_out *out = reply_of(request, sizeof *out);
    out->st = (struct fuse_kstatfs){
        .blocks = found.f_blocks, .bfree = found.f_bfree, .files = found.f_files, .ffree = found.f_ffree,
        .bsize = (uint32_t)found.f_bsize, .frsize = (uint32_t)found.f_frsize, .namelen = (uint32_t)found.f_namemax,
    };
    return 0;
}

static void on_read(struct request *request, const struct fuse_read_in *in) {
    request->handle = (struct handle *)(uintptr_t)in->fh;
    request->offset = in->offset;
    request->bytes = in->size;
    /* Those of the descriptor, O_DIRECT among them. */
    request->flags = in->flags;
}

/* ---- To and from the kernel ----------------------------------------------------------------- */

static void send(const struct request *request, int error, const void *payload, size_t bytes) {
    struct fuse_out_header head = {(uint32_t)(sizeof head + bytes), -error, request->unique};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)payload, bytes}};
    /* Fails where the reader is gone, or the mount: nobody is left to be told. */
    if (writev(request->device, parts, bytes ? 2 : 1) < 0 && errno == ENODEV)
        end(0);
}

static void send_bytes(const struct request *request) {
    static __thread char *buffer;
    struct stat found;
    if (!buffer && !(buffer = aligned_alloc(4096, REQUEST_BYTES)))
        abort();
    int file = request->handle->file;
    long bytes = outcome(request, fstat(file, &found) == 0 ? found.st_size : 0);
    if (bytes > 0)
        bytes = pread(file, buffer, (size_t)bytes, (off_t)request->offset) < bytes ? -EIO : bytes;
    if (bytes > 0)
        count_bytes(bytes);
    send(request, bytes < 0 ? (int)-bytes : 0, buffer, bytes < 0 ? 0 : (size_t)bytes);
}

void answer(struct request *request) {
    if (request->handle)
        send_bytes(request);
    else
        send(request, request->error, request->reply, request->error ? 0 : request->reply_bytes);
    free(request);
}

static int handle(struct request *request, const struct fuse_in_header *head, const void *body) {
    struct node *node = head->nodeid ? node_of(head->nodeid) : NULL;
    switch (head->opcode) {
    case FUSE_INIT: return on_init(request, body);
    case FUSE_LOOKUP: return on_lookup(request, node, body);
    case FUSE_GETATTR: return on_getattr(request, node);
    case FUSE_OPEN: return on_open(request, node, body);
    case FUSE_READ: on_read(request, body); return 0;
    case FUSE_RELEASE: return on_release(body);
    case FUSE_OPENDIR: reply_of(request, sizeof(struct fuse_open_out)); return 0;
    case FUSE_READDIR: return on_readdir(request, node, body);
    case FUSE_STATFS: return on_statfs(request, node);
    case FUSE_RELEASEDIR: case FUSE_DESTROY: return 0;
    /* The kernel does without, and does not ask again; so it is with interrupts: a read waits, as on NFS. */
    default: return ENOSYS;
    }
}

static void *receive(void *argument) {
    int device = (int)(intptr_t)argument;
    union { struct fuse_in_header head; char bytes[FUSE_MIN_READ_BUFFER + WRITE_BYTES]; } in;
    for (;;) {
        if (read(device, &in, sizeof in) < 0) {
            if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
                continue;
            end(0); /* unmounted by somebody */
        }
        if (in.head.opcode == FUSE_FORGET || in.head.opcode == FUSE_BATCH_FORGET)
            continue;
        struct request *request = malloc(sizeof *request);
        if (!request)
            abort();
        memset(request, 0, offsetof(struct request, reply));
        request->unique = in.head.unique;
        request->device = device;
        request->error = handle(request, &in.head, in.bytes + sizeof in.head);
        arrive(request);
    }
    return NULL;
}

int start_receiving(int device, int threads) {
    for (int thread = 0; thread < threads; thread++) {
        int own = device;
        if (thread > 0) {
            own = open("/dev/fuse", O_RDWR | O_CLOEXEC);
            uint32_t of = (uint32_t)device;
            if (own < 0 || ioctl(own, FUSE_DEV_IOC_CLONE, &of) != 0)
                return errno;
        }
        pthread_t started;
        int error = pthread_create(&started, NULL, receive, (void *)(intptr_t)own);
        if (error)
            return error;
    }
    return 0;
}
