/* Eight floats at once, whatever registers the processor has, and e to the power of them. */
#include <stdint.h>

#define LANES 8

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t whole __attribute__((vector_size(4 * LANES), aligned(4)));

/* e to the x, for x up to 0, to a few units of the last place; 0 where it is below the least
 * normal number. */
static inline lanes exponential(lanes x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: added to a number it leaves a whole one */
    const lanes shifted = x * 1.44269504f + round, n = shifted - round;
    const lanes rest = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts */
    lanes power = rest * (1.0f / 5040) + 1.0f / 720;
    power = power * rest + 1.0f / 120;
    power = power * rest + 1.0f / 24;
    power = power * rest + 1.0f / 6;
    power = power * rest + 0.5f;
    power = power * rest + 1.0f;
    power = power * rest + 1.0f;
    const whole scale = ((whole)shifted - (whole)((lanes){0} + round) + 127) << 23;
    return (lanes)((whole)(power * (lanes)scale) & (x > -87.0f));
}
