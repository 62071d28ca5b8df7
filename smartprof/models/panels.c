/* Products of few tokens with one weight matrix, y = x W^T in float32, at the speed of memory.
 *
 * W [outputs, inputs] lies in panels of WIDTH outputs, [panels, inputs, WIDTH], the last one filled
 * up; tiles of tokens go over one panel after the other, so that W comes from memory once. Every sum
 * runs over the inputs in order, one fused multiply-add each: what a token gets depends on no other
 * token.
 */
#include <stddef.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16 /* floats of a register */
#define TALLEST 12 /* tokens of a tile: their sums, two registers each, leave room for weights */
#define FASTEST 8  /* of several: of more tokens, inputs leave the nearest cache in between */
#else
#define LANES 8
#define TALLEST 6
#define FASTEST 6
#endif
#define WIDTH (2 * LANES)
#if defined(__x86_64__) /* or four tokens and more would each load the weights anew */
#define IN_REGISTERS(a, b) __asm__("" : "+v"(a), "+v"(b))
#else
#define IN_REGISTERS(a, b)
#endif
#define MOST_PANELS 4
#define MOST_TOKENS 1024 /* of one walk over the weights */
#define FEW 6 /* tokens of a tile that need weights faster than they come from memory */
#define AHEAD 1024 /* floats; weights are asked for so long before they are needed */
#define LINE 16 /* floats of a line of the caches */

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    const float *x;      /* [tokens], x_stride apart */
    float *y;            /* [tokens, outputs] */
    const float *added;  /* to every token's y, added_stride apart; or NULL */
    const float *scale;  /* [tokens] */
    size_t x_stride, added_stride, outputs, inputs;
} product;

/* The results of a token, `count` of them, from `output` on. */
static void store(
    const product *of, const float *found, size_t token, size_t output, size_t count)
{
    float *y = of->y + token * of->outputs + output;
    memcpy(y, found, count * sizeof *y);
    if (of->added) {
        const float *added = of->added + token * of->added_stride + output;
        for (size_t j = 0; j < count; j++)
            y[j] += added[j];
    }
}

/* `panels` panels from `w` on with `tokens` tokens, both constants where this is inlined. Few tokens
 * take several panels at once, or every addition would wait for the one before it. `next` moves on
 * by `step`: weights that will be needed. */
static inline __attribute__((always_inline)) void tile(
    const product *of, const float *w, size_t token, size_t output, const float *next, size_t step,
    const int tokens, const int panels)
{
    const float *x = of->x + token * of->x_stride;
    const size_t stride = of->x_stride, inputs = of->inputs;
    lanes sum[TALLEST][2 * MOST_PANELS];
    for (int t = 0; t < tokens; t++)
        for (int j = 0; j < 2 * panels; j++)
            sum[t][j] = (lanes){0};
    for (size_t i = 0; i < inputs; i++) {
        __builtin_prefetch(next, 0, 2);
        if (tokens > FEW) /* fewer are faster if the processor reads every other line by itself */
            __builtin_prefetch(next + LINE, 0, 2);
        next += step;
        for (int p = 0; p < panels; p++) {
            const float *row = w + (p * inputs + i) * WIDTH;
            lanes low = *(const lanes *)row, high = *(const lanes *)(row + LANES);
            if (tokens > 3)
                IN_REGISTERS(low, high);
            for (int t = 0; t < tokens; t++) {
                sum[t][2 * p] += low * x[t * stride + i];
                sum[t][2 * p + 1] += high * x[t * stride + i];
            }
        }
    }
    const size_t count = (size_t)panels * WIDTH, left = of->outputs - output;
    for (int t = 0; t < tokens; t++) {
        lanes found[2 * MOST_PANELS];
        for (int j = 0; j < 2 * panels; j++)
            found[j] = sum[t][j] * of->scale[token + t];
        store(of, (const float *)found, token + t, output, left < count ? left : count);
    }
}

/* One tile of any height. */
static void one_panel(
    const product *of, const float *w, size_t token, size_t output, const float *next, size_t step,
    size_t tokens)
{
    switch (tokens) {
#define CASE(n) case n: tile(of, w, token, output, next, step, n, 1); break;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if TALLEST > 6
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
}

/* All tokens over one panel, in tiles of about the same height. While they go over it they ask for
 * the next one, line by line: the arithmetic of one panel hides the reading of another. */
static void all_tokens(const product *of, const float *w, size_t output, size_t tokens)
{
    const size_t tall = tokens > TALLEST ? FASTEST : TALLEST;
    const size_t tiles = (tokens + tall - 1) / tall, size = of->inputs * WIDTH;
    const float *soon = w + (tokens > FEW ? 2 * AHEAD : AHEAD);
    size_t token = 0;
    for (size_t i = 0; i < tiles; i++) {
        const size_t height = tokens / tiles + (i < tokens % tiles);
        const float *next = tiles == 1 ? soon : w + size + i * (size / tiles);
        one_panel(of, w, token, output, next, (WIDTH + tiles - 1) / tiles, height);
        token += height;
    }
}

/* Panels `first` to before `last`. */
static void some_panels(const product *of, const float *w, size_t first, size_t last, size_t tokens)
{
    const size_t size = of->inputs * WIDTH;
    while (first < last) {
        const float *panel = w + first * size;
        const size_t output = first * WIDTH;
        if (tokens == 1 && first + 4 <= last) {
            tile(of, panel, 0, output, panel, 0, 1, 4);
            first += 4;
        } else if (tokens == 2 && first + 2 <= last) {
            tile(of, panel, 0, output, panel, 0, 2, 2);
            first += 2;
        } else if (tokens == 3 && first + 2 <= last) {
            tile(of, panel, 0, output, panel, 0, 3, 2);
            first += 2;
        } else {
            all_tokens(of, panel, output, tokens);
            first += 1;
        }
    }
}

/* 1, or with eps from 0 on 1 / sqrt(sum of squares + eps). */
static float scale_of(const float *x, size_t inputs, float eps)
{
    float squares = 0;
    if (eps < 0)
        return 1;
#pragma omp simd reduction(+ : squares)
    for (size_t i = 0; i < inputs; i++)
        squares += x[i] * x[i];
    return 1 / __builtin_sqrtf(squares + eps);
}

/* Outputs of a panel. */
int panel_width(void) { return WIDTH; }

/* y [tokens, outputs] = x W^T + added. x: [tokens, inputs], tokens x_stride floats apart. w: panels.
 * added: [tokens, outputs], added_stride floats apart, or NULL. eps: below 0, x is taken as it is;
 * else each token over sqrt(sum of its squares + eps). */
void panel_product(
    const float *w, const float *x, size_t x_stride, float *y, const float *added,
    size_t added_stride, float eps, size_t tokens, size_t outputs, size_t inputs, int threads)
{
    const size_t panels = (outputs + WIDTH - 1) / WIDTH;
    for (size_t first = 0; first < tokens; first += MOST_TOKENS) {
        const size_t count = tokens - first < MOST_TOKENS ? tokens - first : MOST_TOKENS;
        float scale[MOST_TOKENS];
        const product of = {
            .x = x + first * x_stride,
            .y = y + first * outputs,
            .added = added ? added + first * added_stride : NULL,
            .scale = scale,
            .x_stride = x_stride,
            .added_stride = added_stride,
            .outputs = outputs,
            .inputs = inputs,
        };
        for (size_t t = 0; t < count; t++)
            scale[t] = scale_of(of.x + t * x_stride, inputs, eps);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
        for (int i = 0; i < threads; i++)
            some_panels(&of, w, panels * i / threads, panels * (i + 1) / threads, count);
    }
}
