/* limpet.h says what each function does. An answer is bounded, and nothing in it is believed about sizes. */
#define _POSIX_C_SOURCE 200809L
#include "limpet.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 40000         /* ms to wait for an answer: a command may take 30 s */
#define LARGEST_HEAD 16384     /* bytes of an answer's head, and of a chunk's line */
#define LARGEST_BODY (1u << 28)

struct buffer {
    char *data; /* ends with a zero byte beyond size */
    size_t size, room;
    bool full; /* there was no memory for something */
};

struct limpet {
    struct sockaddr_un address;
    int fd, status;
    bool chunked, ends, streams;
    size_t length, json_length; /* of the body, and of the JSON at its start */
    size_t shown;               /* bytes of body that limpet_next() is done with */
    struct buffer in, out, body;
    char *memory, region[64], error[256];
    size_t memory_size;
};

static bool reserve(struct buffer *b, size_t more) {
    if (b->size + more < b->room) return true;
    size_t room = (b->size + more + 1) * 2;
    char *data = more > LARGEST_BODY || b->size > LARGEST_BODY ? NULL : realloc(b->data, room);
    if (data == NULL) return b->full = true, false;
    b->data = data, b->room = room;
    return true;
}

static void append(struct buffer *b, const void *data, size_t size) {
    if (!reserve(b, size)) return;
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size, b->data[b->size] = 0;
}

static void format(struct buffer *b, const char *text, ...) {
    char line[1024];
    va_list values;
    va_start(values, text);
    int size = vsnprintf(line, sizeof line, text, values);
    va_end(values);
    if (size < 0 || (size_t)size >= sizeof line) b->full = true;
    else append(b, line, (size_t)size);
}

static void drop(struct buffer *b, size_t size) {
    memmove(b->data, b->data + size, b->size - size + 1);
    b->size -= size;
}

static int fail(limpet *c, int code, const char *text, ...) {
    va_list values;
    va_start(values, text);
    vsnprintf(c->error, sizeof c->error, text, values);
    va_end(values);
    if (code == LIMPET_FAILED && c->fd >= 0) close(c->fd), c->fd = -1;
    return code;
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_for(limpet *c, short events, int64_t until) {
    struct pollfd look = {.fd = c->fd, .events = events};
    for (;;) {
        int64_t left = until - now_ms();
        int found = poll(&look, 1, left > 0 ? (int)left : 0);
        if (found > 0) return 1;
        if (found < 0 && errno != EINTR) return fail(c, LIMPET_FAILED, "poll: %s", strerror(errno));
        if (found == 0) return 0;
    }
}

/* Read what there is, up to so many bytes: 1, 0 after the time, or a failure. */
static int receive(limpet *c, struct buffer *b, size_t most, int64_t until) {
    if (!reserve(b, most)) return fail(c, LIMPET_FAILED, "no memory for an answer");
    int found = wait_for(c, POLLIN, until);
    if (found <= 0) return found;
    ssize_t size = recv(c->fd, b->data + b->size, most, 0);
    if (size < 0) return fail(c, LIMPET_FAILED, "Limpet's answer could not be read: %s", strerror(errno));
    if (size == 0) return fail(c, LIMPET_FAILED, "Limpet closed the connection");
    b->size += (size_t)size, b->data[b->size] = 0;
    return 1;
}

/* Move exactly so many bytes of the answer to the end of the body. */
static int take(limpet *c, size_t size) {
    size_t there = c->in.size < size ? c->in.size : size;
    append(&c->body, c->in.data, there);
    drop(&c->in, there);
    for (size -= there; size > 0;) {
        size_t before = c->body.size;
        int found = receive(c, &c->body, size, now_ms() + PATIENCE);
        if (found <= 0) return found ? found : fail(c, LIMPET_FAILED, "Limpet's answer did not come in time");
        size -= c->body.size - before;
    }
    return c->body.full ? fail(c, LIMPET_FAILED, "no memory for an answer") : 1;
}

/* Wait until the input has this mark. Returns 1 and where it is, 0 after the time, or a failure. */
static int find(limpet *c, const char *mark, size_t *where, int64_t until) {
    for (;;) {
        char *found = c->in.size ? strstr(c->in.data, mark) : NULL;
        if (found) return *where = (size_t)(found - c->in.data), 1;
        if (c->in.size > LARGEST_HEAD) return fail(c, LIMPET_FAILED, "this is not how Limpet answers");
        int got = receive(c, &c->in, 4096, until);
        if (got <= 0) return got;
    }
}

/* Move the next chunk to the body: 1, 0 after the time, 2 at the end, or a failure. */
static int take_chunk(limpet *c, int64_t until) {
    size_t end;
    int found = find(c, "\r\n", &end, until);
    if (found <= 0) return found;
    char *rest;
    unsigned long size = strtoul(c->in.data, &rest, 16);
    if (rest == c->in.data || size > LARGEST_BODY) return fail(c, LIMPET_FAILED, "this is not how Limpet answers");
    drop(&c->in, end + 2);
    size_t before = c->body.size;
    found = take(c, size + 2); /* the end of its line, too */
    if (found < 0) return found;
    c->body.size = before + size, c->body.data[c->body.size] = 0;
    return size ? 1 : 2;
}

static void read_header(limpet *c, const char *line) {
    if (strncasecmp(line, "content-length:", 15) == 0) c->length = strtoul(line + 15, NULL, 10);
    if (strncasecmp(line, "inference-header-content-length:", 32) == 0) c->json_length = strtoul(line + 32, NULL, 10);
    if (strncasecmp(line, "transfer-encoding: chunked", 26) == 0) c->chunked = true;
    if (strncasecmp(line, "connection: close", 17) == 0) c->ends = true;
}

static int read_head(limpet *c) {
    size_t end;
    int found = find(c, "\r\n\r\n", &end, now_ms() + PATIENCE);
    if (found <= 0) return found ? found : fail(c, LIMPET_FAILED, "Limpet did not answer in time");
    c->length = 0, c->json_length = 0, c->chunked = false, c->ends = false;
    if (sscanf(c->in.data, "HTTP/1.1 %3d", &c->status) != 1)
        return fail(c, LIMPET_FAILED, "this is not how Limpet answers");
    for (char *line = strstr(c->in.data, "\r\n") + 2; line < c->in.data + end; line = strstr(line, "\r\n") + 2)
        read_header(c, line);
    drop(&c->in, end + 4);
    return 1;
}

/* Fail with the reason in the body, without its quotes and escapes. */
static int refuse(limpet *c) {
    char why[200];
    size_t size = 0;
    const char *at = limpet_json(c->body.data, "error");
    if (at && *at == '"')
        for (at++; *at && *at != '"' && size < sizeof why - 1; at++) {
            if (*at == '\\' && at[1]) at++;
            why[size++] = *at;
        }
    why[size] = 0;
    return fail(c, LIMPET_REFUSED, "Limpet answered %d: %s", c->status, why);
}

/* Read the body of an answer whose head was read. */
static int read_body(limpet *c) {
    int found;
    append(&c->body, "", 0);
    if (c->chunked)
        while ((found = take_chunk(c, now_ms() + PATIENCE)) == 1) continue;
    else if (c->length > LARGEST_BODY) return fail(c, LIMPET_FAILED, "Limpet's answer is too large");
    else found = take(c, c->length);
    if (found == 0) return fail(c, LIMPET_FAILED, "Limpet's answer did not come in time");
    if (found > 0 && c->ends) close(c->fd), c->fd = -1;
    if (found > 0 && c->status >= 400) return refuse(c);
    return found < 0 ? found : 0;
}

static int read_answer(limpet *c) {
    int found = read_head(c);
    return found < 0 ? found : read_body(c);
}

static int connect_again(limpet *c) {
    if (c->fd >= 0 && wait_for(c, POLLIN, 0) == 0) return 0; /* nothing to read: it is open, and no answer is late */
    if (c->fd >= 0) close(c->fd);
    c->in.size = 0;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&c->address, sizeof c->address) == 0) return 0;
    return fail(c, LIMPET_FAILED, "%s: %s; does Limpet run with [api]?", c->address.sun_path, strerror(errno));
}

/* Begin a request, of which the caller appends the body. */
static int begin(limpet *c, const char *method, const char *path, size_t size, const char *header) {
    c->error[0] = 0, c->status = 0;
    c->out.size = c->body.size = c->shown = 0;
    c->out.full = c->body.full = c->in.full = false;
    if (c->streams) return fail(c, LIMPET_INVALID, "this connection has a stream; open another one");
    if (strpbrk(path, " \r\n") || strlen(path) > 800) return fail(c, LIMPET_INVALID, "this is no path: %.100s", path);
    format(&c->out, "%s %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n", method, path, header, size);
    return connect_again(c);
}

static int finish(limpet *c) {
    if (c->out.full) return fail(c, LIMPET_INVALID, "the request is too large, or there is no memory");
    for (size_t sent = 0; sent < c->out.size;) {
        int found = wait_for(c, POLLOUT, now_ms() + PATIENCE);
        if (found == 0) return fail(c, LIMPET_FAILED, "Limpet does not read the request");
        if (found < 0) return found;
        ssize_t size = send(c->fd, c->out.data + sent, c->out.size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size < 0 && errno != EAGAIN && errno != EINTR) break; /* its answer says why it reads no further */
        if (size > 0) sent += (size_t)size;
    }
    return 0;
}

limpet *limpet_open(const char *socket_path) {
    limpet *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    c->fd = -1;
    c->address.sun_family = AF_UNIX;
    append(&c->in, "", 0);
    if (strlen(socket_path) >= sizeof c->address.sun_path) {
        fail(c, LIMPET_INVALID, "the path of a Unix socket has at most %zu bytes", sizeof c->address.sun_path - 1);
        return c;
    }
    strcpy(c->address.sun_path, socket_path);
    connect_again(c);
    return c;
}

void limpet_close(limpet *c) {
    if (c == NULL) return;
    if (c->memory) {
        char path[128];
        snprintf(path, sizeof path, "/v2/systemsharedmemory/region/%s/unregister", c->region + 1);
        if (!c->streams) limpet_request(c, "POST", path, NULL, NULL);
        munmap(c->memory, c->memory_size);
    }
    if (c->fd >= 0) close(c->fd);
    free(c->in.data), free(c->out.data), free(c->body.data), free(c);
}

const char *limpet_error(const limpet *c) { return c == NULL ? "no memory" : c->error[0] ? c->error : NULL; }

int limpet_status(const limpet *c) { return c->status; }

int limpet_request(limpet *c, const char *method, const char *path, const char *body, const char **answer) {
    size_t size = body ? strlen(body) : 0;
    int done = begin(c, method, path, size, body ? "Content-Type: application/json\r\n" : "");
    if (done == 0) append(&c->out, body ? body : "", size), done = finish(c);
    if (done == 0) done = read_answer(c);
    if (answer) *answer = done == 0 ? c->body.data : NULL;
    return done;
}

void *limpet_share(limpet *c, size_t bytes) {
    if (c == NULL) return NULL;
    c->error[0] = 0;
    if (c->memory || bytes == 0) return fail(c, LIMPET_INVALID, "memory is shared once, and is not empty"), NULL;
    snprintf(c->region, sizeof c->region, "/limpet-%ld-%" PRIxPTR, (long)getpid(), (uintptr_t)c);
    int fd = shm_open(c->region, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0) return fail(c, LIMPET_INVALID, "%s: %s", c->region, strerror(errno)), NULL;
    int problem = ftruncate(fd, (off_t)bytes);
    struct stat status;
    if (stat(c->address.sun_path, &status) == 0 && fchown(fd, (uid_t)-1, status.st_gid) == 0) fchmod(fd, 0660);
    void *memory = problem ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    char path[128], body[128];
    snprintf(path, sizeof path, "/v2/systemsharedmemory/region/%s/register", c->region + 1);
    snprintf(body, sizeof body, "{\"key\":\"%s\",\"offset\":0,\"byte_size\":%zu}", c->region, bytes);
    int done = memory == MAP_FAILED ? fail(c, LIMPET_INVALID, "%zu bytes of memory: %s", bytes, strerror(errno))
                                    : limpet_request(c, "POST", path, body, NULL);
    shm_unlink(c->region); /* Limpet has it open: a program that crashes leaves nothing behind */
    if (done == 0) return c->memory_size = bytes, c->memory = memory;
    if (memory != MAP_FAILED) munmap(memory, bytes);
    return NULL;
}

static bool shared(const limpet *c, const limpet_tensor *t) {
    uintptr_t from = (uintptr_t)c->memory, data = (uintptr_t)t->data;
    return c->memory && data >= from && data - from <= c->memory_size && t->size <= c->memory_size - (data - from);
}

static void format_place(const limpet *c, struct buffer *b, const limpet_tensor *t, const char *otherwise) {
    if (shared(c, t))
        format(b, "\"parameters\":{\"shared_memory_region\":\"%s\",\"shared_memory_offset\":%zu,"
               "\"shared_memory_byte_size\":%zu}", c->region + 1, (size_t)((char *)t->data - c->memory), t->size);
    else format(b, otherwise, t->size);
}

static void format_request(const limpet *c, struct buffer *b, const limpet_tensor *in, size_t in_count,
                           const limpet_tensor *out, size_t out_count) {
    for (size_t i = 0; i < in_count; i++) {
        format(b, "%s{\"name\":\"%s\",\"datatype\":\"%.7s\",\"shape\":[", i ? "," : "{\"inputs\":[", in[i].name,
               in[i].datatype);
        for (size_t d = 0; d < in[i].dimensions && d < LIMPET_DIMENSIONS; d++)
            format(b, "%s%" PRId64, d ? "," : "", in[i].shape[d]);
        format(b, "],");
        format_place(c, b, &in[i], "\"parameters\":{\"binary_data_size\":%zu}");
        format(b, "}");
    }
    for (size_t i = 0; i < out_count; i++) {
        format(b, "%s{\"name\":\"%s\",", i ? "," : "],\"outputs\":[", out[i].name);
        format_place(c, b, &out[i], "\"parameters\":{\"binary_data\":true}");
        format(b, "}");
    }
    format(b, "]}");
}

static int read_output(limpet *c, const char *json, limpet_tensor *t, const char *data, size_t left, size_t *taken) {
    const char *type = limpet_json(json, "datatype"), *shape = limpet_json(json, "shape");
    const char *size = limpet_json(json, "parameters.binary_data_size");
    char end = 0;
    if (!type || !shape || sscanf(type, "\"%7[A-Z0-9]%c", t->datatype, &end) != 2 || end != '"')
        return fail(c, LIMPET_INVALID, "Limpet's answer describes no tensor");
    for (t->dimensions = 0, shape++; *shape && *shape != ']' && t->dimensions < LIMPET_DIMENSIONS;) {
        char *rest;
        t->shape[t->dimensions++] = strtoll(shape, &rest, 10);
        if (rest == shape) return fail(c, LIMPET_INVALID, "Limpet's answer has a wrong shape");
        shape = rest + strspn(rest, ", ");
    }
    if (*shape != ']') return fail(c, LIMPET_INVALID, "Limpet's answer has a wrong shape");
    if (shared(c, t)) {
        const char *there = limpet_json(json, "parameters.shared_memory_byte_size");
        if (there && strtoul(there, NULL, 10) <= t->size) t->size = strtoul(there, NULL, 10);
        return 0;
    }
    size_t bytes = size ? strtoul(size, NULL, 10) : 0;
    if (!size || bytes > left) return fail(c, LIMPET_INVALID, "Limpet's answer has no bytes of \"%s\"", t->name);
    if (bytes > t->size) return fail(c, LIMPET_INVALID, "\"%s\" needs %zu bytes, not %zu", t->name, bytes, t->size);
    memcpy(t->data, data, bytes);
    t->size = *taken = bytes;
    return 0;
}

int limpet_infer(limpet *c, const char *model, const limpet_tensor *in, size_t in_count, limpet_tensor *out,
                 size_t out_count) {
    struct buffer json = {0};
    char path[256], header[128];
    size_t size = 0;
    c->error[0] = 0;
    for (size_t i = 0; i < in_count + out_count; i++) {
        const char *name = i < in_count ? in[i].name : out[i - in_count].name;
        if (strpbrk(name, "\"\\\r\n")) return fail(c, LIMPET_INVALID, "a tensor's name has no quotes: %.100s", name);
    }
    if (in_count == 0 || out_count == 0) return fail(c, LIMPET_INVALID, "a model has inputs and outputs");
    format_request(c, &json, in, in_count, out, out_count);
    for (size_t i = 0; i < in_count; i++) size += shared(c, &in[i]) ? 0 : in[i].size;
    snprintf(path, sizeof path, "/v2/models/%.200s/infer", model);
    snprintf(header, sizeof header, "Inference-Header-Content-Length: %zu\r\n", json.size);
    int done = begin(c, "POST", path, json.size + size, header);
    append(&c->out, json.data, json.size);
    c->out.full |= json.full;
    free(json.data);
    for (size_t i = 0; i < in_count; i++)
        if (!shared(c, &in[i])) append(&c->out, in[i].data, in[i].size);
    if (done == 0) done = finish(c);
    if (done == 0) done = read_answer(c);
    size_t at = c->json_length && c->json_length <= c->body.size ? c->json_length : c->body.size;
    for (size_t i = 0; done == 0 && i < out_count; i++) {
        char which[32];
        size_t taken = 0;
        snprintf(which, sizeof which, "outputs.%zu", i);
        const char *found = limpet_json(c->body.data, which);
        done = found ? read_output(c, found, &out[i], c->body.data + at, c->body.size - at, &taken)
                     : fail(c, LIMPET_INVALID, "Limpet's answer lacks \"%s\"", out[i].name);
        at += taken;
    }
    return done;
}

int limpet_stream(limpet *c, const char *query) {
    char path[512];
    snprintf(path, sizeof path, "/api/stream?%.480s", query);
    int done = begin(c, "GET", path, 0, "Accept: text/event-stream\r\n");
    if (done == 0) done = finish(c);
    if (done == 0 && (done = read_head(c)) > 0) done = c->status >= 400 ? read_body(c) : 0;
    if (done == 0 && (c->status != 200 || !c->chunked))
        return fail(c, LIMPET_REFUSED, "Limpet answered %d to /api/stream?%.100s", c->status, query);
    c->streams = done == 0;
    return done;
}

int limpet_next(limpet *c, int milliseconds, const char **message) {
    int64_t until = now_ms() + milliseconds;
    if (!c->streams || c->fd < 0) return fail(c, LIMPET_FAILED, "the stream has ended");
    for (append(&c->body, "", 0);;) {
        drop(&c->body, c->shown), c->shown = 0;
        char *end = strstr(c->body.data, "\n\n");
        if (end) {
            c->shown = (size_t)(end - c->body.data) + 2;
            if (strncmp(c->body.data, "data: ", 6) != 0) continue; /* a pulse keeps the connection alive */
            *end = 0, *message = c->body.data + 6;
            return 1;
        }
        int found = take_chunk(c, until);
        if (found == 2) return fail(c, LIMPET_FAILED, "the stream has ended");
        if (found <= 0) return found;
    }
}

static const char *skip_space(const char *at) { return at + strspn(at, " \t\r\n"); }

/* Return what follows a value, or NULL if the text ends in it. */
static const char *skip_value(const char *at) {
    int depth = 0;
    do {
        at = skip_space(at);
        if (*at == '"') {
            for (at++; *at && *at != '"'; at++)
                if (*at == '\\' && at[1]) at++;
            if (*at++ == 0) return NULL;
        } else if (*at && strchr("{[", *at)) depth++, at++;
        else if (*at && strchr("}]", *at)) depth--, at++;
        else if (*at && strchr(",:", *at) && depth) at++;
        else if (*at == 0 || strcspn(at, " \t\r\n,:]}") == 0) return NULL;
        else at += strcspn(at, " \t\r\n,:]}");
    } while (depth > 0);
    return at;
}

const char *limpet_json(const char *json, const char *path) {
    for (const char *at = skip_space(json);;) {
        size_t length = strcspn(path, ".");
        char open = *at++, *end;
        if (open != '{' && open != '[') return NULL;
        unsigned long index = 0, wanted = strtoul(path, &end, 10);
        if (open == '[' && (end == path || end != path + length)) return NULL;
        for (;; index++) {
            at = skip_space(at);
            bool found = open == '[' && index == wanted;
            if (open == '{') {
                found = *at == '"' && strncmp(at + 1, path, length) == 0 && at[1 + length] == '"';
                if (*at != '"' || !(at = skip_value(at)) || *(at = skip_space(at)) != ':') return NULL;
                at = skip_space(at + 1);
            }
            if (*at == 0 || *at == ']' || *at == '}') return NULL;
            if (found) break;
            if (!(at = skip_value(at)) || *(at = skip_space(at)) != ',') return NULL;
            at++;
        }
        if (path[length] == 0) return at;
        path += length + 1;
    }
}
