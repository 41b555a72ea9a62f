/* The sketch for half a second of its own time. */
#include SKETCH

int main() {
    setup();
    for (int i = 0; i < 600; i++) {
        loop();
        host_us += 1000;
    }
    return 0;
}
