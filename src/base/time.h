/* Clocks. Sessions never read them: the time is handed to them. */
#ifndef SP_BASE_TIME_H
#define SP_BASE_TIME_H

#include <stdint.h>

/* Monotonic, for deadlines. */
uint64_t sp_now_ms(void);
uint64_t sp_now_us(void);
/* Wall clock, nanoseconds since 1970-01-01 UTC. */
uint64_t sp_wall_ns(void);

/* For simulations: from here on both clocks stand where they are put, for the whole process, and
 * move only when they are told to. The wall clock can be put anywhere, the other never goes back.
 */
void sp_time_simulate(uint64_t now_ms, uint64_t wall_ns);
void sp_time_pass_ms(uint64_t ms); /* both; without a simulation nothing happens */
void sp_time_set_wall_ns(uint64_t wall_ns);

/* Civil time <-> seconds since 1970, proleptic Gregorian; month 1..12, day 1..31. No range checks.
 */
int64_t sp_civil_to_unix(int year, int month, int day, int hour, int minute, int second);
struct sp_civil {
    int year, month, day, hour, minute, second, weekday; /* weekday: 0 is Sunday */
};
void sp_unix_to_civil(int64_t seconds, struct sp_civil *ret_civil);
/* "Mon" .. and "Jan" ..: the English names of RFC 5322. */
extern const char *const sp_weekday_names[7];
extern const char *const sp_month_names[12];

#endif
