/* Writes down the calls that make files durable, in the order of their ends: a line each, appended
 * to the file named by MQ_TRACE, and for a mapping a second one, "reach", with the offset in the
 * file up to which it was synced. Preloaded in front of the system's library. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

static void note(const char *call, const char *path)
{
    char line[PATH_MAX + 32];
    int length = snprintf(line, sizeof line, "%s %s\n", call, path);
    int file = REAL(int, "open", const char *, int, ...)(
        getenv("MQ_TRACE"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    /* One write: lines of two threads never mix. */
    if (file < 0 || write(file, line, length) != length)
        abort();
    close(file);
}

static void note_fd(const char *call, int file)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    note(call, path);
}

/* The file that is mapped at an address, as the system shows it. */
static void note_mapping(const char *call, void *address, size_t length)
{
    char line[PATH_MAX + 128], reach[PATH_MAX + 32];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        unsigned long start, end, offset;
        char *path = strchr(line, '/');
        if (path != NULL && sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
            start <= (unsigned long)address && (unsigned long)address < end) {
            path[strcspn(path, "\n")] = 0;
            note(call, path);
            offset += (unsigned long)address - start + length;
            snprintf(reach, sizeof reach, "%lu %s", offset, path);
            note("reach", reach);
            break;
        }
    }
    if (maps != NULL)
        fclose(maps);
}

int msync(void *start, size_t length, int flags)
{
    int outcome = REAL(int, "msync", void *, size_t, int)(start, length, flags);
    note_mapping("msync", start, length);
    return outcome;
}

int fsync(int file)
{
    int outcome = REAL(int, "fsync", int)(file);
    note_fd("fsync", file);
    return outcome;
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = flags & O_CREAT ? va_arg(rest, int) : 0;
    va_end(rest);
    int file = REAL(int, "open64", const char *, int, ...)(path, flags, mode);
    if (file >= 0 && (flags & O_CREAT) && (flags & O_EXCL))
        note("create", path);
    return file;
}

int mkdir(const char *path, mode_t mode)
{
    int outcome = REAL(int, "mkdir", const char *, mode_t)(path, mode);
    if (outcome == 0)
        note("mkdir", path);
    return outcome;
}

int unlink(const char *path)
{
    int outcome = REAL(int, "unlink", const char *)(path);
    if (outcome == 0)
        note("unlink", path);
    return outcome;
}

int rename(const char *from, const char *to)
{
    int outcome = REAL(int, "rename", const char *, const char *)(from, to);
    if (outcome == 0)
        note("rename", from);
    return outcome;
}
