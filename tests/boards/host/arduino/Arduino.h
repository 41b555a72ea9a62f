/* As much of Arduino as the sketch needs, on this machine: Serial is stdout. */
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>

struct HostSerial {
    void begin(unsigned long) {}
    std::size_t write(std::uint8_t byte) { return write(&byte, 1); }
    std::size_t write(const std::uint8_t *bytes, std::size_t count) { return std::fwrite(bytes, 1, count, stdout); }
};
static HostSerial Serial;

/* Begins 100 ms before it wraps. */
static std::uint32_t host_us = 0xFFFFFFFFu - 100000u;
static inline std::uint32_t micros() { return host_us; }
