/* Runs a model on zeros in shared memory, and prints the next results of a pipeline.
 *
 *     example SOCKET MODEL INPUT VALUES OUTPUT PIPELINE RESULTS
 *
 * The model takes a row of VALUES int8 values.
 */
#include "limpet.h"

#include <stdio.h>
#include <stdlib.h>

static int failed(limpet *connection, const char *what) {
    fprintf(stderr, "%s: %s\n", what, limpet_error(connection));
    limpet_close(connection);
    return 1;
}

static int run_model(const char *socket_path, const char *model, const char *input, size_t count, const char *output) {
    limpet *connection = limpet_open(socket_path);
    size_t room = 4096;
    int8_t *memory = limpet_share(connection, count + room);
    if (memory == NULL) return failed(connection, "share");
    limpet_tensor in = {.name = input, .datatype = "INT8", .shape = {1, (int64_t)count}, .dimensions = 2,
                        .data = memory, .size = count};
    limpet_tensor out = {.name = output, .data = memory + count, .size = room};
    for (size_t i = 0; i < count; i++) memory[i] = 0;
    if (limpet_infer(connection, model, &in, 1, &out, 1) < 0) return failed(connection, "infer");
    printf("%s %s:", out.name, out.datatype);
    for (size_t i = 0; i < out.size; i++) printf(" %d", ((int8_t *)out.data)[i]);
    printf("\n");
    limpet_close(connection);
    return 0;
}

static int print_results(const char *socket_path, const char *pipeline, int count) {
    char query[128];
    const char *message;
    limpet *connection = limpet_open(socket_path);
    if (limpet_error(connection)) return failed(connection, "open");
    snprintf(query, sizeof query, "kind=result&pipeline=%.64s", pipeline);
    if (limpet_stream(connection, query) < 0) return failed(connection, "stream");
    while (count > 0) {
        int found = limpet_next(connection, 1000, &message);
        if (found < 0) return failed(connection, "next");
        const char *sequence = found ? limpet_json(message, "message.sequence") : NULL;
        if (sequence) printf("result %ld\n", strtol(sequence, NULL, 10)), count--;
    }
    limpet_close(connection);
    return 0;
}

int main(int count, char **arguments) {
    if (count != 8) return fprintf(stderr, "example SOCKET MODEL INPUT VALUES OUTPUT PIPELINE RESULTS\n"), 2;
    size_t values = (size_t)strtoul(arguments[4], NULL, 10);
    if (run_model(arguments[1], arguments[2], arguments[3], values, arguments[5])) return 1;
    int results = atoi(arguments[7]);
    return results > 0 ? print_results(arguments[1], arguments[6], results) : 0;
}
