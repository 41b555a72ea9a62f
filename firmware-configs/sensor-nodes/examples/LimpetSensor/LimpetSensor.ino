/*
 * An accelerometer and gyroscope (MPU-6050 on I2C) as a sensor of Limpet: 100 samples a second, six int16 channels.
 *
 * In limpet.toml:  framing = "cobs"  baud = 115200  channels = ["ax", "ay", "az", "gx", "gy", "gz"]
 *                  rate = 100
 *                  scale = [0.000598, 0.000598, 0.000598, 0.000133, 0.000133, 0.000133]    # m/s2 and rad/s
 *
 * Nothing else may write to this port: no Serial.print.
 */
#include <Arduino.h>
#include <Wire.h>
#include <limpet_frame.h>

static const uint8_t MPU_ADDRESS = 0x68;
static const uint8_t REG_POWER = 0x6B, REG_DIVIDER = 0x19, REG_FILTER = 0x1A, REG_DATA = 0x3B;
static const uint8_t CHANNELS = 6;
static const uint8_t SAMPLES = 10; // in a frame: a tenth of a second
static const uint32_t PERIOD_US = 10000;

static uint8_t wire[LIMPET_FRAME_SIZE(LIMPET_INT16, CHANNELS, SAMPLES)];
static struct limpet_frame frame;
static uint8_t waiting;    // samples in the frame
static uint16_t taken;     // since the start, also those that the sensor did not give
static uint32_t next_us;

static void set_register(uint8_t what, uint8_t value) {
    Wire.beginTransmission(MPU_ADDRESS);
    Wire.write(what);
    Wire.write(value);
    Wire.endTransmission();
}

static bool read_sample(int16_t values[CHANNELS]) {
    uint8_t bytes[14]; // acceleration, temperature, rotation; high byte first
    Wire.beginTransmission(MPU_ADDRESS);
    Wire.write(REG_DATA);
    if (Wire.endTransmission(false) != 0 || Wire.requestFrom(MPU_ADDRESS, (uint8_t)sizeof bytes) != sizeof bytes) {
        return false;
    }
    for (uint8_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)Wire.read();
    }
    for (uint8_t i = 0; i < CHANNELS; i++) {
        const uint8_t at = (uint8_t)(2 * (i < 3 ? i : i + 1));
        values[i] = (int16_t)(uint16_t)(((uint16_t)bytes[at] << 8) | bytes[at + 1]);
    }
    return true;
}

static void send_frame() {
    if (waiting > 0) {
        Serial.write(wire, limpet_end(&frame));
        waiting = 0;
    }
}

void setup() {
    Serial.begin(115200);
    Wire.begin();
    Wire.setClock(400000);
    set_register(REG_POWER, 0x01);  // awake, on the gyroscope's clock
    set_register(REG_FILTER, 0x03); // 44 Hz: below half the rate
    set_register(REG_DIVIDER, 9);   // 1 kHz / (1 + 9)
    Serial.write((uint8_t)0);
    next_us = micros();
}

void loop() {
    const uint32_t now = micros();
    if ((int32_t)(now - next_us) < 0) {
        return;
    }
    next_us += PERIOD_US;
    int16_t values[CHANNELS];
    if (!read_sample(values)) {
        send_frame(); // a frame has no holes: the next begins after the sample that is missing
        taken++;
        return;
    }
    if (waiting == 0) {
        limpet_begin(&frame, wire, sizeof wire, LIMPET_INT16, CHANNELS, taken, now);
    }
    limpet_int16(&frame, values, CHANNELS);
    taken++;
    waiting++;
    if (waiting == SAMPLES) {
        send_frame();
    }
}
