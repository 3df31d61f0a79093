/* A wall clock for the processes of a test: the machine's, and so much ahead as the file that HELD_CLOCK names says.
 * Loaded by LD_PRELOAD. Any number of threads may read it at any time. The monotonic clock is left alone.
 *
 * The file: one byte that says which of two numbers counts, and at 8 and 16 these numbers, in nanoseconds. The writer
 * changes the other number and then the byte, so no reader ever sees half a number.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

struct hands {
    volatile unsigned char which;
    char unused[7];
    volatile int64_t ahead[2];
};

static const struct hands *hands;
static int (*machine)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HELD_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *hands, PROT_READ, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) abort();
    close(file);
    machine = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    hands = at;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = machine ? machine(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && hands && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = now->tv_nsec + hands->ahead[hands->which & 1];
        now->tv_sec += nanos / SECOND;
        now->tv_nsec = nanos % SECOND;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return (time_t)-1;
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
