/* As much of Zephyr as the sample needs, on this machine: the UART is stdout, and time ends after HOST_TICKS. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define HOST_TICKS 70
#define HOST_LATE 33 /* here three ticks pass at once */

struct k_timer {
    int64_t ticks;
};
#define K_TIMER_DEFINE(name, expire, stop) static struct k_timer name
#define K_USEC(us) (us)

static int64_t host_us;
static inline void k_timer_start(struct k_timer *timer, int first, int period) {
    (void)first;
    (void)period;
    timer->ticks = 0;
}
static inline uint32_t k_timer_status_sync(struct k_timer *timer) {
    const uint32_t due = timer->ticks == HOST_LATE ? 3 : 1;
    timer->ticks += due;
    host_us += 5000 * due;
    if (timer->ticks > HOST_TICKS) {
        fflush(stdout);
        exit(0);
    }
    return due;
}
static inline int64_t k_uptime_ticks(void) { return host_us; }
static inline uint64_t k_ticks_to_us_floor64(uint64_t ticks) { return ticks; }
