/* An accelerometer whose n-th reading is n + 0.5, -n - 0.5, 9.80665, and whose reading HOST_MISSING fails. */
#pragma once
#include <stdint.h>
#include <zephyr/device.h>

#define HOST_MISSING 10

struct sensor_value {
    int32_t val1, val2; /* whole and millionths, of one sign */
};
enum sensor_channel { SENSOR_CHAN_ACCEL_XYZ };

static int32_t host_reading = -1;
static inline int sensor_sample_fetch(const struct device *device) {
    (void)device;
    host_reading++;
    return host_reading == HOST_MISSING ? -5 : 0;
}
static inline int sensor_channel_get(const struct device *device, enum sensor_channel channel,
                                     struct sensor_value *values) {
    (void)device;
    (void)channel;
    values[0].val1 = host_reading;
    values[0].val2 = 500000;
    values[1].val1 = -host_reading;
    values[1].val2 = -500000;
    values[2].val1 = 9;
    values[2].val2 = 806650;
    return 0;
}
static inline float sensor_value_to_float(const struct sensor_value *value) {
    return (float)value->val1 + (float)value->val2 / 1000000;
}
