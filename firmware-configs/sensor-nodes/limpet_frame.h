/*
 * The binary frame that Limpet reads from a serial line: docs/reference/serial-frame.md of Limpet has its layout.
 *
 * C99 and C++11, no dependency, no allocation, no floating point unless you send floats, any byte order. A frame is
 * built in a buffer of yours in its form on the wire, value by value, so there is no second copy of it:
 *
 *     static uint8_t wire[LIMPET_FRAME_SIZE(LIMPET_INT16, 6, 10)];    // ten samples of six channels
 *     struct limpet_frame frame;
 *
 *     limpet_begin(&frame, wire, sizeof wire, LIMPET_INT16, 6, count, micros());
 *     for (int i = 0; i < 10; i++) {
 *         limpet_int16(&frame, samples[i], 6);
 *     }
 *     size_t length = limpet_end(&frame);     // 0: it did not fit, or not a whole number of samples was put in
 *     uart_write(wire, length);
 *     count += 10;
 *
 * `count` is that of the samples taken since the board started, also of those that were never sent: that is how a
 * loss is seen. Send one zero byte when the board starts, so that noise before it costs nothing else.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef LIMPET_FRAME_H
#define LIMPET_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* First byte of a frame: version 1 in the high half, the type of its values in the low one. */
enum limpet_type { LIMPET_INT16 = 0x11, LIMPET_INT32 = 0x12, LIMPET_FLOAT32 = 0x13 };

/* Bytes of a value of each type. */
#define LIMPET_VALUE_SIZE(type) ((type) == LIMPET_INT16 ? 2u : 4u)

/* Bytes before it is encoded: header of 8, values, checksum of 2. */
#define LIMPET_PAYLOAD_SIZE(type, channels, samples) \
    (10u + (size_t)LIMPET_VALUE_SIZE(type) * (channels) * (samples))

/* The largest that such a frame becomes on the wire: one more byte for each 254, and two. */
#define LIMPET_FRAME_SIZE(type, channels, samples)     \
    (LIMPET_PAYLOAD_SIZE(type, channels, samples) +    \
     LIMPET_PAYLOAD_SIZE(type, channels, samples) / 254u + 2u)

/* A frame in the making. Nothing in it is yours to read or write. */
struct limpet_frame {
    uint8_t *wire;
    size_t capacity;
    size_t length;   /* bytes written */
    size_t block;    /* where the length of the current COBS block goes */
    uint32_t values; /* put in so far */
    uint16_t crc;
    uint8_t type;
    uint8_t channels;
    uint8_t failed;
};

/* CRC-16/IBM-3740 goes on by one byte: polynomial 0x1021, start 0xFFFF. */
static inline uint16_t limpet_crc(uint16_t crc, uint8_t byte) {
    int bit;
    crc = (uint16_t)(crc ^ (uint16_t)((uint16_t)byte << 8));
    for (bit = 0; bit < 8; bit++) {
        unsigned shifted = (unsigned)crc << 1;
        crc = (uint16_t)((crc & 0x8000u) != 0u ? shifted ^ 0x1021u : shifted);
    }
    return crc;
}

static inline void limpet_raw(struct limpet_frame *frame, uint8_t byte) {
    if (frame->length < frame->capacity) {
        frame->wire[frame->length] = byte;
        frame->length++;
    } else {
        frame->failed = 1;
    }
}

static inline void limpet_close_block(struct limpet_frame *frame) {
    if (frame->block < frame->capacity) {
        frame->wire[frame->block] = (uint8_t)(frame->length - frame->block);
    }
}

static inline void limpet_open_block(struct limpet_frame *frame) {
    frame->block = frame->length;
    limpet_raw(frame, 0);
}

/* One byte of payload into the COBS block that is open. */
static inline void limpet_stuff(struct limpet_frame *frame, uint8_t byte) {
    if (frame->failed) {
        return;
    }
    if (frame->length - frame->block == 255u) { /* full, and there is more: it stands for no zero */
        limpet_close_block(frame);
        limpet_open_block(frame);
    }
    if (byte == 0u) {
        limpet_close_block(frame);
        limpet_open_block(frame);
    } else {
        limpet_raw(frame, byte);
    }
}

static inline void limpet_byte(struct limpet_frame *frame, uint8_t byte) {
    frame->crc = limpet_crc(frame->crc, byte);
    limpet_stuff(frame, byte);
}

/* The lowest `size` bytes of a number, little endian. */
static inline void limpet_number(struct limpet_frame *frame, uint32_t number, unsigned size) {
    while (size-- > 0u) {
        limpet_byte(frame, (uint8_t)(number & 0xFFu));
        number >>= 8;
    }
}

/*
 * Begin a frame in `wire`, which has room for `capacity` bytes.
 * `sequence` and `time_us` are those of the first sample; both wrap by themselves.
 */
static inline void limpet_begin(struct limpet_frame *frame, uint8_t *wire, size_t capacity, enum limpet_type type,
                                uint8_t channels, uint16_t sequence, uint32_t time_us) {
    frame->wire = wire;
    frame->capacity = capacity;
    frame->length = 0;
    frame->values = 0;
    frame->crc = 0xFFFFu;
    frame->type = (uint8_t)type;
    frame->channels = channels;
    frame->failed = channels == 0u;
    limpet_open_block(frame);
    limpet_number(frame, (uint32_t)type, 1);
    limpet_number(frame, channels, 1);
    limpet_number(frame, sequence, 2);
    limpet_number(frame, time_us, 4);
}

/* Put in `count` values. They must be of the frame's type: any other makes limpet_end return 0. */
static inline void limpet_int16(struct limpet_frame *frame, const int16_t *values, size_t count) {
    size_t i;
    frame->failed = (uint8_t)(frame->failed | (frame->type != LIMPET_INT16));
    for (i = 0; i < count; i++) {
        limpet_number(frame, (uint16_t)values[i], 2);
    }
    frame->values += (uint32_t)count;
}

static inline void limpet_int32(struct limpet_frame *frame, const int32_t *values, size_t count) {
    size_t i;
    frame->failed = (uint8_t)(frame->failed | (frame->type != LIMPET_INT32));
    for (i = 0; i < count; i++) {
        limpet_number(frame, (uint32_t)values[i], 4);
    }
    frame->values += (uint32_t)count;
}

/* For a `float` of four bytes in IEEE 754 form, as every C compiler for microcontrollers has it. */
static inline void limpet_float32(struct limpet_frame *frame, const float *values, size_t count) {
    size_t i;
    frame->failed = (uint8_t)(frame->failed | (frame->type != LIMPET_FLOAT32));
    for (i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        limpet_number(frame, bits, 4);
    }
    frame->values += (uint32_t)count;
}

/*
 * End the frame. Returns how many bytes of `wire` to send, or 0 if the frame cannot be sent: the buffer was too small,
 * the values were of another type, or they make no whole samples, none, or more than 255.
 */
static inline size_t limpet_end(struct limpet_frame *frame) {
    uint16_t crc = frame->crc;
    uint32_t values = frame->values;
    limpet_stuff(frame, (uint8_t)(crc & 0xFFu));
    limpet_stuff(frame, (uint8_t)(crc >> 8));
    limpet_close_block(frame);
    limpet_raw(frame, 0);
    if (frame->failed || values == 0u || values % frame->channels != 0u || values / frame->channels > 255u) {
        return 0;
    }
    return frame->length;
}

#ifdef __cplusplus
}
#endif

#endif
