/* A device that fails: while the file named by MQ_FAIL exists, every sync of this process answers
 * EIO, or, where the path of a directory is in that file, only those of that. Preloaded in front of
 * the system's library. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Whether a sync of this open file fails; -1: of a mapping. */
static int fails(int file)
{
    const char *path = getenv("MQ_FAIL");
    char wanted[PATH_MAX] = "", link[64], synced[PATH_MAX] = "";
    FILE *fail = path == NULL ? NULL : fopen(path, "r");
    if (fail == NULL)
        return 0;
    size_t length = fread(wanted, 1, sizeof wanted - 1, fail);
    fclose(fail);
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (length > 0 && (readlink(link, synced, sizeof synced - 1) < 0 || strcmp(synced, wanted)))
        return 0;
    errno = EIO;
    return 1;
}

int msync(void *start, size_t length, int flags)
{
    int (*real)(void *, size_t, int) = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync");
    return fails(-1) ? -1 : real(start, length, flags);
}

int fsync(int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fails(file) ? -1 : real(file);
}

int fdatasync(int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fails(file) ? -1 : real(file);
}
