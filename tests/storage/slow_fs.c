/* A storage that is slow, broken or silent on demand: a read-only FUSE file system over a folder.
 *
 *     slow_fs FOLDER MOUNTPOINT [NAME=VALUE ...]
 *
 * Needs neither libfuse nor fusermount, but root. Prints "ok" once mounted; else "cannot: " and why, or "error: "
 * and what is wrong with an option. Then it takes orders on standard input, a line each, and answers each with a line:
 * "set NAME=VALUE ..." ("ok", or "error: " and why nothing was changed), "counts" (JSON), "reset" (counts start anew;
 * "ok"). With the end of input, its parent's
 * death, SIGTERM or SIGINT it unmounts and ends. README.md says what the options are. */
#define _GNU_SOURCE
#include "slow_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { MAX_WORDS = 64, LINE_BYTES = 8192 };

static const char *mountpoint;

_Noreturn void end(int status) {
    /* What is open keeps a detached mount alive; with our last descriptor the kernel fails all that waits. */
    umount2(mountpoint, MNT_DETACH);
    _exit(status);
}

_Noreturn static void cannot(const char *what) {
    printf("cannot: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int mount_at(const char *folder) {
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0)
        cannot("/dev/fuse");
    char data[160];
    snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions,allow_other", device,
             getuid(), getgid());
    if (mount(folder, mountpoint, "fuse.slow_fs", MS_NOSUID | MS_NODEV | MS_RDONLY, data) != 0)
        cannot(mountpoint);
    return device;
}

/* What FUSE_INIT agrees on is a limit; what the kernel reads ahead it keeps elsewhere. */
static void set_readahead(void) {
    struct stat found;
    char path[80];
    if (!(option(READAHEAD_BYTES) > 0) || stat(mountpoint, &found) != 0)
        return;
    snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(found.st_dev), minor(found.st_dev));
    FILE *file = fopen(path, "w");
    if (!file || fprintf(file, "%.0f", option(READAHEAD_BYTES) / 1024) < 0 || fclose(file) != 0) {
        printf("cannot: %s: %s\n", path, strerror(errno));
        fflush(stdout);
        end(1);
    }
}

static void obey(char *line) {
    char *words[MAX_WORDS], answer[LINE_BYTES] = "ok";
    int count = 0;
    for (char *word = strtok(line, " "); word && count < MAX_WORDS; word = strtok(NULL, " "))
        words[count++] = word;
    const char *order = count ? words[0] : "";
    if (strcmp(order, "set") == 0) {
        const char *why = set_options(words + 1, count - 1, 0);
        if (why)
            snprintf(answer, sizeof answer, "error: %s", why);
    } else if (strcmp(order, "counts") == 0) {
        print_counts(answer, sizeof answer);
    } else if (strcmp(order, "reset") == 0) {
        reset_counts();
    } else {
        snprintf(answer, sizeof answer, "error: %s: no order", order);
    }
    printf("%s\n", answer);
    fflush(stdout);
}

static void take_orders(int signals) {
    static char line[LINE_BYTES];
    size_t used = 0;
    struct pollfd sources[] = {{STDIN_FILENO, POLLIN, 0}, {signals, POLLIN, 0}};
    for (;;) {
        if (poll(sources, 2, -1) < 0)
            continue;
        if (sources[1].revents || used == sizeof line)
            return;
        ssize_t got = read(STDIN_FILENO, line + used, sizeof line - used);
        if (got <= 0)
            return;
        used += (size_t)got;
        for (char *stop; (stop = memchr(line, '\n', used));) {
            *stop = 0;
            obey(line);
            used -= (size_t)(stop + 1 - line);
            memmove(line, stop + 1, used);
        }
    }
}

int main(int count, char **words) {
    static char folder[PATH_MAX];
    if (count < 3) {
        fprintf(stderr, "slow_fs FOLDER MOUNTPOINT [NAME=VALUE ...]\n");
        return 2;
    }
    if (!realpath(words[1], folder))
        cannot(words[1]);
    const char *why = set_options(words + 3, count - 3, 1);
    if (why) {
        printf("error: %s\n", why);
        return 1;
    }
    mountpoint = words[2];
    /* Ends with its parent, even where a copy of our input's other end lives on in a process it has forked. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1);
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    int signals = signalfd(-1, &ending, SFD_CLOEXEC);
    open_root(folder);
    int device = mount_at(folder), threads = (int)option(THREADS);
    start_answering(threads);
    int error = start_receiving(device, threads);
    if (error) {
        printf("cannot: %s\n", strerror(error));
        fflush(stdout);
        end(1);
    }
    set_readahead();
    printf("ok\n");
    fflush(stdout);
    take_orders(signals);
    end(0);
}
