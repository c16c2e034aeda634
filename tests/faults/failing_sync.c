/* A device that fails: while the file named by MQ_FAIL exists, every sync of this process answers
 * EIO. Preloaded in front of the system's library. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int fails(void)
{
    const char *path = getenv("MQ_FAIL");
    if (path == NULL || access(path, F_OK) != 0)
        return 0;
    errno = EIO;
    return 1;
}

int msync(void *start, size_t length, int flags)
{
    int (*real)(void *, size_t, int) = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync");
    return fails() ? -1 : real(start, length, flags);
}

int fsync(int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fails() ? -1 : real(file);
}

int fdatasync(int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fails() ? -1 : real(file);
}
