/* The gate of an MLP in float32: gate = silu(gate) * up, with silu(x) = x / (1 + e^-x). */
#include <stddef.h>

#include "lanes.h"

#define FEW 16384 /* numbers that one thread is done with before another has begun */

/* joined [tokens, 2, size]: gate and up of each token; the gate's place takes the result. size: a
 * multiple of LANES. */
void gate(float *joined, size_t tokens, size_t size, int threads)
{
#pragma omp parallel for schedule(static) num_threads(tokens * size < FEW ? 1 : threads)
    for (size_t token = 0; token < tokens; token++) {
        float *row = joined + 2 * size * token;
        for (size_t i = 0; i < size; i += LANES) {
            const lanes x = *(lanes *)(row + i), up = *(lanes *)(row + size + i);
            const lanes power = exponential((lanes)((whole)x | INT32_MIN)); /* of -|x| */
            const whole below = x < 0.0f;
            const lanes share = (lanes)((below & (whole)power) | (~below & (whole)((lanes){0} + 1)));
            *(lanes *)(row + i) = x * share / (1 + power) * up;
        }
    }
}
