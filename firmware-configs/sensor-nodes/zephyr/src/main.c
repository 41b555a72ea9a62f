/*
 * An accelerometer as a sensor of Limpet: 200 samples a second, three float32 channels in m/s2.
 * Any board with an alias accel0 and a chosen limpet,uart; boards/ has some.
 *
 * In limpet.toml:  framing = "cobs"  baud = 921600  channels = ["ax", "ay", "az"]  rate = 200
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <zephyr/device.h>
#include <zephyr/drivers/sensor.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>

#include "limpet_frame.h"

#define CHANNELS 3
#define SAMPLES 20 /* in a frame: a tenth of a second */
#define PERIOD K_USEC(5000)

static const struct device *const imu = DEVICE_DT_GET(DT_ALIAS(accel0));
static const struct device *const uart = DEVICE_DT_GET(DT_CHOSEN(limpet_uart));

K_TIMER_DEFINE(tick, NULL, NULL);

static void send(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        uart_poll_out(uart, bytes[i]);
    }
}

static bool read_sample(float values[CHANNELS]) {
    struct sensor_value xyz[CHANNELS];
    if (sensor_sample_fetch(imu) != 0 || sensor_channel_get(imu, SENSOR_CHAN_ACCEL_XYZ, xyz) != 0) {
        return false;
    }
    for (int i = 0; i < CHANNELS; i++) {
        values[i] = sensor_value_to_float(&xyz[i]);
    }
    return true;
}

int main(void) {
    static uint8_t wire[LIMPET_FRAME_SIZE(LIMPET_FLOAT32, CHANNELS, SAMPLES)];
    struct limpet_frame frame;
    const uint8_t delimiter = 0;
    uint16_t taken = 0; /* since the start, also those that were missed */
    int waiting = 0;    /* samples in the frame */

    if (!device_is_ready(imu) || !device_is_ready(uart)) {
        return 1;
    }
    send(&delimiter, 1);
    k_timer_start(&tick, PERIOD, PERIOD);
    for (;;) {
        /* More than one: this thread came too late, and those before the last were never taken. */
        const uint32_t due = k_timer_status_sync(&tick);
        float values[CHANNELS];
        const bool good = read_sample(values);

        if (waiting > 0 && (due > 1 || !good)) { /* a frame has no holes */
            send(wire, limpet_end(&frame));
            waiting = 0;
        }
        taken = (uint16_t)(taken + due);
        if (!good) {
            continue;
        }
        if (waiting == 0) {
            const uint32_t now = (uint32_t)k_ticks_to_us_floor64((uint64_t)k_uptime_ticks());
            limpet_begin(&frame, wire, sizeof wire, LIMPET_FLOAT32, CHANNELS, (uint16_t)(taken - 1), now);
        }
        limpet_float32(&frame, values, CHANNELS);
        waiting++;
        if (waiting == SAMPLES) {
            send(wire, limpet_end(&frame));
            waiting = 0;
        }
    }
}
