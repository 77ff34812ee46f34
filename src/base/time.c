#include "base/time.h"

#include <stdatomic.h>
#include <time.h>

const char *const sp_weekday_names[7] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
const char *const sp_month_names[12] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/* 0: the machine's clocks. */
static _Atomic uint64_t simulated_us, simulated_wall_ns;

void sp_time_simulate(uint64_t now_ms, uint64_t wall_ns)
{
    atomic_store(&simulated_wall_ns, wall_ns);
    atomic_store(&simulated_us, now_ms * 1000U);
}

void sp_time_pass_ms(uint64_t ms)
{
    if (!atomic_load(&simulated_us))
        return;
    atomic_fetch_add(&simulated_us, ms * 1000U);
    atomic_fetch_add(&simulated_wall_ns, ms * 1000000U);
}

void sp_time_set_wall_ns(uint64_t wall_ns)
{
    atomic_store(&simulated_wall_ns, wall_ns);
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

uint64_t sp_now_ms(void)
{
    uint64_t us = atomic_load_explicit(&simulated_us, memory_order_relaxed);
    if (us)
        return us / 1000U;
    return clock_ns(CLOCK_MONOTONIC) / 1000000U;
}

uint64_t sp_now_us(void)
{
    uint64_t us = atomic_load_explicit(&simulated_us, memory_order_relaxed);
    if (us)
        return us;
    return clock_ns(CLOCK_MONOTONIC) / 1000U;
}

uint64_t sp_wall_ns(void)
{
    if (atomic_load_explicit(&simulated_us, memory_order_relaxed))
        return atomic_load(&simulated_wall_ns);
    return clock_ns(CLOCK_REALTIME);
}

/* Days from 1970-01-01 with years that begin in March, so that the leap day comes last. */
int64_t sp_civil_to_unix(int year, int month, int day, int hour, int minute, int second)
{
    int64_t y = month <= 2 ? (int64_t)year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    int64_t days = era * 146097 + day_of_era - 719468;
    return days * 86400 + (int64_t)hour * 3600 + (int64_t)minute * 60 + second;
}

void sp_unix_to_civil(int64_t seconds, struct sp_civil *ret_civil)
{
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int64_t weekday = (days + 4) % 7;
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    ret_civil->day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    ret_civil->month = (int)(month < 10 ? month + 3 : month - 9);
    ret_civil->year = (int)(year_of_era + era * 400 + (ret_civil->month <= 2));
    ret_civil->hour = (int)(rest / 3600);
    ret_civil->minute = (int)(rest / 60 % 60);
    ret_civil->second = (int)(rest % 60);
    ret_civil->weekday = (int)(weekday < 0 ? weekday + 7 : weekday);
}
