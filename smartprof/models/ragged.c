/* Attention of packed tokens over the cached keys and values of their requests, in float32.
 *
 * Nothing is padded: a task is a few tokens of one request with one key-value head, and reads as
 * many slots as these see. Slots are gone over in blocks that stay in a core's cache; what the
 * softmax divides by is corrected from block to block (Milakov and Gimelshein, arXiv 1805.02867).
 * Blocks begin at slot 0 and every sum runs over them in order: what a token gets depends on no
 * other token.
 */
#include <float.h>
#include <stddef.h>
#include <string.h>

#include "lanes.h"

#define BLOCK 64 /* slots */
#define MOST_ROWS 24 /* of a task: its tokens with every query head of a key-value head */
#define LINE 16 /* floats that memory gives at once */
#define SPREAD 8 /* registers of values at once */

#if defined(__clang__)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (whole){__VA_ARGS__})
#endif

typedef struct {
    int64_t request, first, count; /* tokens first ... first + count - 1 of the request */
} task;

typedef struct {
    const task *tasks;
    const int64_t *offset; /* [requests]: packed index of the first token */
    const int64_t *entry;  /* [requests]: of the cache, where slot 0 lies */
    const int64_t *before; /* [requests]: slots that all its tokens see, from `oldest` on */
    const int64_t *oldest; /* [tokens]: first slot seen */
    const int64_t *extent; /* [tokens]: slots seen at most */
    const uint8_t *inside; /* [requests, width, span]: which of the slots from `before` on */
    size_t count, width, span;              /* tasks; of `inside` */
    size_t kv_heads, group, size;           /* group: query heads of a key-value head */
    size_t head_stride;                     /* floats from one key-value head to the next */
} plan;

/* Sums of the lanes of eight registers. */
static inline lanes sums(const lanes x[LANES])
{
    lanes pairs[4], fours[2];
    for (int i = 0; i < 4; i++) {
        const lanes a = x[2 * i], b = x[2 * i + 1];
        pairs[i] = PICK(a, b, 0, 8, 2, 10, 4, 12, 6, 14) + PICK(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 2; i++) {
        const lanes a = pairs[2 * i], b = pairs[2 * i + 1];
        fours[i] = PICK(a, b, 0, 1, 8, 9, 4, 5, 12, 13) + PICK(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
    }
    const lanes a = fours[0], b = fours[1];
    return PICK(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + PICK(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
}

/* Scaled products of a query with the keys of `count` slots, rounded up to whole registers. */
static void score(
    float *scores, const float *query, const float *keys, size_t count, size_t size, float scale)
{
    for (size_t slot = 0; slot < count; slot += LANES) {
        const float *row[LANES];
        lanes sum[LANES];
        for (size_t j = 0; j < LANES; j++) {
            row[j] = keys + (slot + j < count ? slot + j : count - 1) * size;
            sum[j] = (lanes){0};
        }
        for (size_t i = 0; i < size; i += LANES) {
            const lanes x = *(const lanes *)(query + i);
            for (int j = 0; j < LANES; j++)
                sum[j] += x * *(const lanes *)(row[j] + i);
        }
        *(lanes *)(scores + slot) = sums(sum) * scale;
    }
}

/* out = out * scale + weights V for `registers` registers of each of `count` values, a constant
 * where this is inlined. */
static inline __attribute__((always_inline)) void weigh(
    float *out, float scale, const float *weights, const float *values, size_t count, size_t size,
    const int registers)
{
    lanes sum[SPREAD];
    for (int j = 0; j < registers; j++)
        sum[j] = *(lanes *)(out + j * LANES) * scale;
    for (size_t slot = 0; slot < count; slot++)
        for (int j = 0; j < registers; j++)
            sum[j] += weights[slot] * *(const lanes *)(values + slot * size + j * LANES);
    for (int j = 0; j < registers; j++)
        *(lanes *)(out + j * LANES) = sum[j];
}

/* Largest of `count` scores, filled up by -FLT_MAX to whole registers, and of `most`. */
static inline float largest_of(const float *scores, size_t count, float most)
{
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < count; i++)
        most = scores[i] > most ? scores[i] : most;
    return most;
}

/* A query on its way over the blocks. */
typedef struct {
    const float *query;
    float *out;
    size_t token, slots; /* of the block, from its first on; 0: it sees none of it */
    float largest, scale; /* score so far; what `out` is multiplied by */
    lanes total;         /* of its weights */
    float scores[BLOCK]; /* of the block, then weights */
} row;

/* From a block's scores to weights. */
static void soften(row *of)
{
    const size_t filled = (of->slots + LANES - 1) / LANES * LANES;
    for (size_t i = of->slots; i < filled; i++)
        of->scores[i] = -FLT_MAX;
    const float most = largest_of(of->scores, filled, of->largest);
    of->scale = 1;
    if (most == -FLT_MAX)
        of->slots = 0; /* nothing of it is seen, nor was anything before */
    else if (most > of->largest) {
        of->scale = exponential((lanes){0} + (of->largest - most))[0];
        of->total *= of->scale;
    }
    of->largest = most;
    for (size_t i = 0; i < filled; i += LANES) {
        const lanes weight = exponential(*(lanes *)(of->scores + i) - most);
        *(lanes *)(of->scores + i) = weight;
        of->total += weight;
    }
}

/* Take back the scores of slots that a token does not see. inside: its row. */
static void hide(
    float *scores, size_t block, size_t count, size_t oldest, size_t before, const uint8_t *inside)
{
    for (size_t slot = block; slot < block + count; slot++)
        if (slot < before ? slot < oldest : !inside[slot - before])
            scores[slot - block] = -FLT_MAX;
}

/* Ask for one of `parts` parts of the next `slots` slots, so that they come from memory while those
 * before them are worked on. */
static void ask_for(const float *next, size_t slots, size_t size, size_t part, size_t parts)
{
    const size_t floats = slots * size;
    for (size_t i = floats * part / parts; i < floats * (part + 1) / parts; i += LINE)
        __builtin_prefetch(next + i, 0, 2);
}

/* The rows of a task, which see nothing from slot `last` on, over one block of keys and values. */
static void one_block(
    const plan *of, size_t request, row *rows, size_t count, size_t block, size_t last,
    const float *keys, const float *values)
{
    const size_t size = of->size, before = of->before[request];
    const uint8_t *inside = of->inside + request * of->width * of->span;
    const float scale = 1 / __builtin_sqrtf(size);
    const size_t end = block + BLOCK, after = end < last ? last - end : 0;
    const size_t next = after < BLOCK ? after : BLOCK;
    for (row *r = rows; r < rows + count; r++) {
        ask_for(keys + BLOCK * size, next, size, r - rows, count);
        const size_t oldest = of->oldest[r->token], extent = of->extent[r->token];
        r->slots = block >= extent || end <= oldest ? 0
            : extent - block < BLOCK ? extent - block : BLOCK;
        score(r->scores, r->query, keys, r->slots, size, scale);
        if (r->slots && (block < oldest || block + r->slots > before))
            hide(r->scores, block, r->slots, oldest, before,
                inside + (r->token - of->offset[request]) * of->span);
    }
    for (row *r = rows; r < rows + count; r++)
        soften(r);
    for (row *r = rows; r < rows + count; r++) {
        size_t i = 0;
        ask_for(values + BLOCK * size, next, size, r - rows, count);
        if (!r->slots)
            continue;
        for (; i + SPREAD * LANES <= size; i += SPREAD * LANES)
            weigh(r->out + i, r->scale, r->scores, values + i, r->slots, size, SPREAD);
        for (; i < size; i += LANES)
            weigh(r->out + i, r->scale, r->scores, values + i, r->slots, size, 1);
    }
}

/* The tokens of a task with one key-value head. query, out: of its first query head. Head i of
 * kv_heads * group reads key-value head i % kv_heads. */
static void one_task(
    const plan *of, const task *part, const float *query, size_t query_stride, const float *keys,
    const float *values, float *out)
{
    const size_t size = of->size, step = of->kv_heads * size, stride = step * of->group;
    const size_t count = part->count * of->group;
    size_t last = 0;
    row rows[MOST_ROWS];
    for (size_t i = 0; i < count; i++) {
        const size_t token = part->first + i / of->group, head = i % of->group * step;
        row *r = &rows[i];
        r->query = query + token * query_stride + head;
        r->out = out + token * stride + head;
        r->token = token;
        last = (size_t)of->extent[token] > last ? (size_t)of->extent[token] : last;
        r->largest = -FLT_MAX;
        r->total = (lanes){0};
        memset(r->out, 0, size * sizeof *r->out);
    }
    for (size_t block = 0; block < last; block += BLOCK)
        one_block(
            of, part->request, rows, count, block, last, keys + block * size, values + block * size);
    for (row *r = rows; r < rows + count; r++) {
        float total = 0;
        for (int i = 0; i < LANES; i++)
            total += r->total[i];
        for (size_t i = 0; i < size; i++)
            r->out[i] /= total;
    }
}

/* Query heads, over all its tokens, that a task takes at most. */
int ragged_rows(void) { return MOST_ROWS; }

/* out [tokens, heads, size]: attention of query, tokens query_stride floats apart, over keys and
 * values of one layer, [kv_heads, entries, size]. size: a multiple of 8. */
void ragged_attention(
    const plan *of, const float *query, size_t query_stride, const float *keys,
    const float *values, float *out, int threads)
{
    const int64_t tasks = of->count * of->kv_heads;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < tasks; i++) {
        const task *part = of->tasks + i / of->kv_heads;
        const size_t head = i % of->kv_heads, start = of->entry[part->request] * of->size;
        one_task(of, part, query + head * of->size, query_stride,
            keys + head * of->head_stride + start, values + head * of->head_stride + start,
            out + head * of->size);
    }
}
