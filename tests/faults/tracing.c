/* Writes down each sync of a mapping when it has ended: a line "msync", appended to the file named
 * by MQ_TRACE. Preloaded in front of the system's library. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int msync(void *start, size_t length, int flags)
{
    int (*real)(void *, size_t, int) = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync");
    int outcome = real(start, length, flags);
    int file = open(getenv("MQ_TRACE"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file < 0 || write(file, "msync\n", 6) != 6)
        abort();
    close(file);
    return outcome;
}
