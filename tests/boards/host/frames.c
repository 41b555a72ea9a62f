/* Encode what stdin asks for with limpet_frame.h. Numbers are in the host's byte order.
 *
 * in:  u8 type, u8 channels, u16 sequence, u32 time_us, u32 values, u32 capacity, the values as they lie in memory
 * out: u32 length, that many bytes
 */
#include <stdio.h>
#include <stdlib.h>

#include "limpet_frame.h"

struct request {
    uint8_t type, channels;
    uint16_t sequence;
    uint32_t time_us, values, capacity;
};

static void put(struct limpet_frame *frame, uint8_t type, const void *values, size_t count) {
    if (type == LIMPET_INT16) {
        limpet_int16(frame, (const int16_t *)values, count);
    } else if (type == LIMPET_INT32) {
        limpet_int32(frame, (const int32_t *)values, count);
    } else {
        limpet_float32(frame, (const float *)values, count);
    }
}

int main(void) {
    struct request request;
    while (fread(&request, sizeof request, 1, stdin) == 1) {
        size_t size = LIMPET_VALUE_SIZE(request.type) * (size_t)request.values;
        uint8_t *values = (uint8_t *)malloc(size + 1), *wire = (uint8_t *)malloc(request.capacity + 1);
        struct limpet_frame frame;
        uint32_t length;
        if (values == NULL || wire == NULL || fread(values, 1, size, stdin) != size) {
            return 1;
        }
        wire[request.capacity] = 0xA5; /* a guard: the encoder must not touch it */
        limpet_begin(&frame, wire, request.capacity, (enum limpet_type)request.type, request.channels,
                     request.sequence, request.time_us);
        put(&frame, request.type, values, request.values);
        length = (uint32_t)limpet_end(&frame);
        if (wire[request.capacity] != 0xA5 || length > request.capacity) {
            return 2;
        }
        fwrite(&length, sizeof length, 1, stdout);
        fwrite(wire, 1, length, stdout);
        fflush(stdout);
        free(values);
        free(wire);
    }
    return 0;
}
