/* An MPU-6050 whose n-th sample is n, -n, 2n, -2n, 3n, -3n, and that does not answer for the sample HOST_MISSING. */
#pragma once
#include "Arduino.h"

#define HOST_MISSING 25

struct HostWire {
    int sample = -1, at = 0;
    std::uint8_t writing = 0, chosen = 0, bytes[14];

    void begin() {}
    void setClock(unsigned long) {}
    void beginTransmission(std::uint8_t) { writing = 0; }
    std::size_t write(std::uint8_t byte) {
        if (writing++ == 0) {
            chosen = byte;
        }
        return 1;
    }
    std::uint8_t endTransmission(bool = true) {
        if (chosen == 0x3B && ++sample == HOST_MISSING) {
            return 2; /* no acknowledgement */
        }
        return 0;
    }
    std::uint8_t requestFrom(std::uint8_t, std::uint8_t count) {
        for (int i = 0; i < 7; i++) { /* the fourth is the temperature, which nobody wants */
            const int axis = i < 3 ? i : i - 1;
            const int value = i == 3 ? 0x7FFF : sample * (axis / 2 + 1) * (axis % 2 == 0 ? 1 : -1);
            bytes[2 * i] = (std::uint8_t)((value >> 8) & 0xFF);
            bytes[2 * i + 1] = (std::uint8_t)(value & 0xFF);
        }
        at = 0;
        return count;
    }
    int read() { return bytes[at++]; }
};
static HostWire Wire;
