/* A client of Limpet's local API, over its Unix socket. C11 and POSIX; no other library.
 *
 * A connection belongs to one thread at a time. Every function that can fail returns a negative number, or NULL, and
 * limpet_error() then says why. Text is UTF-8. Nothing here is freed by the caller but by limpet_close().
 */
#ifndef LIMPET_H
#define LIMPET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LIMPET_SOCKET "/run/limpet/api.sock" /* where the service has it */
#define LIMPET_DIMENSIONS 8                  /* of a tensor, at most */

enum {
    LIMPET_FAILED = -1,  /* the connection: Limpet does not run, or closed it */
    LIMPET_REFUSED = -2, /* Limpet answered with an error; limpet_status() is its HTTP status */
    LIMPET_INVALID = -3, /* an argument is wrong, or a buffer is too small */
};

typedef struct limpet limpet;

/* A tensor, row by row and little-endian. */
typedef struct {
    const char *name;                /* as the model has it */
    char datatype[8];                /* "FP32", "INT8", "UINT8", ... */
    int64_t shape[LIMPET_DIMENSIONS];
    size_t dimensions;               /* of shape */
    void *data;                      /* the caller's, or inside what limpet_share() returned */
    size_t size;                     /* bytes at data */
} limpet_tensor;

/* Connect. Returns NULL only if there is no memory: see limpet_error(), which is NULL after success. */
limpet *limpet_open(const char *socket_path);
void limpet_close(limpet *connection);

const char *limpet_error(const limpet *connection); /* why the last call failed; NULL if it did not */
int limpet_status(const limpet *connection);        /* HTTP status of the last answer */

/* Send a request. Its answer, which ends with a zero byte, is valid until the next call on this connection.
 * method: "GET" or "POST". path: such as "/api/pipelines". body: JSON, or NULL. */
int limpet_request(limpet *connection, const char *method, const char *path, const char *body, const char **answer);

/* Make memory that this process and Limpet share, of so many bytes, zeros at first. A connection has one such memory,
 * and limpet_close() ends it. Tensors inside it are not copied into requests and answers.
 * If Limpet was started again, it does not know the memory any more: close the connection, and begin again. */
void *limpet_share(limpet *connection, size_t bytes);

/* Run a model. Inputs are complete. Outputs have a name, data and size, which is the room there is; Limpet sets
 * datatype, shape, dimensions and size. */
int limpet_infer(limpet *connection, const char *model, const limpet_tensor *inputs, size_t input_count,
                 limpet_tensor *outputs, size_t output_count);

/* Begin a stream on this connection, which then serves limpet_next() alone.
 * query: such as "kind=result&pipeline=motion", or "". */
int limpet_stream(limpet *connection, const char *query);

/* Wait for a message: 1 if there is one, 0 after so many milliseconds without one. It is an object of JSON in one
 * line, valid until the next call. */
int limpet_next(limpet *connection, int milliseconds, const char **message);

/* Find a value in JSON by its path, such as "message.output.values.0". Keys have no '.' and no escapes.
 * Returns where the value begins, or NULL. */
const char *limpet_json(const char *json, const char *path);

#ifdef __cplusplus
}
#endif
#endif
