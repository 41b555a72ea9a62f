/* An external TFLite delegate that really computes, and fails when a test wants it to.
 *
 * It claims FULLY_CONNECTED and CONV_2D in int8 (per tensor and per channel) and float32, and gives what the CPU
 * gives, int8 within one step. It stands in for a vendor's: an Edge TPU pulled out of its socket, a driver that
 * hangs, a chip that computes wrongly.
 *
 * Options: `fault` = WORDS from the start, `control` = path of a file with WORDS that is read again in every phase;
 * no such file, no fault. WORDS are separated by blanks:
 *
 *   create prepare init invoke   an error in that phase
 *   unplugged                    create fails, and a delegate that sees this in invoke fails ever after
 *   crash[=PHASE] hang[=PHASE]   a segmentation fault, or waiting for ever; PHASE is invoke if not said
 *   wrong                        every output of a partition has its lowest bits flipped (int8) or is halved (float)
 *   partial=N                    claim only the first N nodes that it could
 *   slow=MS                      every invoke takes MS milliseconds more
 *   probe=FOLDER                 create tries what no delegate may do, FOLDER being that of the configuration, and
 *                                fails with a report of what came of it
 *
 * The structures are those of TensorFlow Lite's c/common.h, as far as they are used: their layout is the same in
 * tflite-runtime 2.14 and ai-edge-litert 2.x.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, ERROR = 1 };
enum { FLOAT32 = 1, INT32 = 2, INT8 = 9 };
enum { CONV_2D = 3, FULLY_CONNECTED = 9, DELEGATE = 51 };
enum { LINEAR = 0, RELU = 1, RELU6 = 3 };
enum { SAME = 1 };
enum { OPTIONAL = -1, MOST_WORDS = 256 };

typedef struct { int size; int data[]; } Ints;
typedef struct { int size; float data[]; } Floats;
typedef struct { Floats *scale; Ints *zero_point; int32_t dimension; } Affine;
typedef struct Delegate Delegate;
typedef struct Context Context;

typedef struct {
    int type;
    void *data;
    Ints *dims;
    struct { float scale; int32_t zero_point; } params;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    Delegate *delegate;
    int buffer_handle;
    bool data_is_stale;
    bool is_variable;
    struct { int type; void *params; } quantization;
    void *sparsity;
    const Ints *dims_signature;
} Tensor;

typedef struct {
    Ints *inputs, *outputs, *intermediates, *temporaries;
    void *user_data;
    void *builtin_data;
} Node; /* goes on; nodes are only pointed to */

typedef struct {
    void *(*init)(Context *, const char *, size_t);
    void (*free)(Context *, void *);
    int (*prepare)(Context *, Node *);
    int (*invoke)(Context *, Node *);
    const char *(*profiling_string)(const Context *, const Node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *registration_external;
    void *async_kernel;
    uint64_t inplace_operator;
    void *room[8]; /* passed by value: a newer runtime may know more fields, and must find them empty */
} Registration;

struct Context {
    size_t tensors_size;
    int (*GetExecutionPlan)(Context *, Ints **);
    Tensor *tensors;
    void *impl;
    int (*ResizeTensor)(Context *, Tensor *, Ints *);
    void (*ReportError)(Context *, const char *, ...);
    int (*AddTensors)(Context *, int, int *);
    int (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
    int (*ReplaceNodeSubsetsWithDelegateKernels)(Context *, Registration, const Ints *, Delegate *);
}; /* goes on */

struct Delegate {
    void *data;
    int (*Prepare)(Context *, Delegate *);
    void *CopyFromBufferHandle, *CopyToBufferHandle, *FreeBufferHandle;
    int64_t flags;
    void *opaque_delegate_builder; /* must stay NULL */
};

typedef struct { Delegate *delegate; Ints *nodes, *inputs, *outputs; } Params;
typedef struct { int activation, weights_format; } DenseOptions; /* goes on */
typedef struct { int padding, stride_w, stride_h, activation, dilation_w, dilation_h; } ConvOptions; /* goes on */

/* --- faults */

typedef struct { char fault[MOST_WORDS], control[4096]; bool dead; } State;

static bool word(const char *text, const char *name, char *value, size_t room) {
    size_t length = strlen(name);
    for (const char *at = text; *(at += strspn(at, " \t\r\n")); at += strcspn(at, " \t\r\n")) {
        size_t whole = strcspn(at, " \t\r\n");
        if (strncmp(at, name, length) || (whole > length && at[length] != '=')) continue;
        const char *from = whole > length ? at + length + 1 : at + whole;
        snprintf(value, room, "%.*s", (int)(at + whole - from), from);
        return true;
    }
    return false;
}

/* Whether a fault is raised now; `value` gets what stands behind its '='. */
static bool raised(const State *state, const char *name, char *value, size_t room) {
    char text[MOST_WORDS] = "";
    FILE *file = *state->control ? fopen(state->control, "r") : NULL;
    if (file) {
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
    }
    return word(state->fault, name, value, room) || word(text, name, value, room);
}

static bool raised_in(const State *state, const char *name, const char *phase) {
    char value[32];
    return raised(state, name, value, sizeof value) && !strcmp(*value ? value : "invoke", phase);
}

/* Suffer whatever is wrong in this phase. Return ERROR where the phase is to fail. */
static int suffer(State *state, const char *phase) {
    char value[32];
    if (raised_in(state, "crash", phase)) {
        fprintf(stderr, "fault_delegate: crashes in %s\n", phase);
        *(volatile int *)0 = 1;
    }
    while (raised_in(state, "hang", phase)) pause();
    if ((!strcmp(phase, "create") || !strcmp(phase, "invoke")) && raised(state, "unplugged", value, sizeof value))
        state->dead = true;
    if (!strcmp(phase, "invoke") && raised(state, "slow", value, sizeof value)) {
        long ms = atol(value);
        nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
    }
    return state->dead || raised(state, phase, value, sizeof value) ? ERROR : OK;
}

/* --- a hostile delegate */

static void note(char *said, size_t room, const char *what, bool done) {
    size_t length = strlen(said);
    const char *how = done ? "done" : errno == EPERM || errno == EACCES ? "refused" : strerror(errno);
    snprintf(said + length, room - length, "; %s %s", what, how);
}

static bool opens(const char *folder, const char *name, int flags) {
    char path[MOST_WORDS + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, flags, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static bool connects(int family) {
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static bool forks(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    return child > 0 && waitpid(child, NULL, 0) == child;
}

static void probe(const char *folder, void (*report)(const char *)) {
    char said[512] = "probe", parent[32];
    snprintf(parent, sizeof parent, "/proc/%d", (int)getppid());
    note(said, sizeof said, "network", connects(AF_INET));
    note(said, sizeof said, "unix", connects(AF_UNIX));
    note(said, sizeof said, "key", opens(folder, "mqtt-password", O_RDONLY));
    note(said, sizeof said, "write", opens(folder, "written", O_CREAT | O_WRONLY));
    note(said, sizeof said, "model", opens(folder, "dense.tflite", O_WRONLY));
    note(said, sizeof said, "environment", opens(parent, "environ", O_RDONLY));
    note(said, sizeof said, "signal", kill(getppid(), 0) == 0);
    note(said, sizeof said, "fork", forks());
    report(said);
}

/* --- kernels */

typedef struct { int code, activation, input, weights, bias, output; ConvOptions conv; } Op;
typedef struct { State *state; Params *params; int count; Op *ops; void **own; size_t own_size; } Kernel;

static bool has(const Ints *list, int wanted) {
    for (int i = 0; i < list->size; i++)
        if (list->data[i] == wanted) return true;
    return false;
}

static size_t count_of(const Tensor *tensor) {
    size_t count = 1;
    for (int i = 0; i < tensor->dims->size; i++) count *= (size_t)tensor->dims->data[i];
    return count;
}

static void *data_of(const Kernel *kernel, const Context *context, int index) {
    return kernel->own[index] ? kernel->own[index] : context->tensors[index].data;
}

/* Store a sum as the output's dtype. Channel `c` has its own scale where weights are quantized per channel. */
static void store(const Context *context, const Op *op, void *to, size_t at, int c, double sum) {
    const Tensor *x = &context->tensors[op->input], *w = &context->tensors[op->weights];
    const Tensor *y = &context->tensors[op->output];
    if (y->type == FLOAT32) {
        if (op->activation != LINEAR) sum = fmax(sum, 0);
        if (op->activation == RELU6) sum = fmin(sum, 6);
        ((float *)to)[at] = (float)sum;
        return;
    }
    const Floats *scales = ((Affine *)w->quantization.params)->scale;
    double scale = (double)x->params.scale * scales->data[scales->size > 1 ? c : 0] / y->params.scale;
    double low = op->activation == LINEAR ? -128 : fmax(-128, y->params.zero_point);
    double high = op->activation == RELU6 ? fmin(127, y->params.zero_point + round(6 / y->params.scale)) : 127;
    ((int8_t *)to)[at] = (int8_t)fmin(fmax(round(sum * scale) + y->params.zero_point, low), high);
}

static double dot(const Context *context, const Op *op, const void *x, const void *w, size_t n) {
    if (context->tensors[op->input].type == FLOAT32) {
        float sum = 0;
        for (size_t i = 0; i < n; i++) sum += ((const float *)x)[i] * ((const float *)w)[i];
        return sum;
    }
    int32_t sum = 0, zero = context->tensors[op->input].params.zero_point;
    for (size_t i = 0; i < n; i++) sum += (((const int8_t *)x)[i] - zero) * ((const int8_t *)w)[i];
    return sum;
}

static double bias_of(const Context *context, const Op *op, const void *bias, int c) {
    if (!bias) return 0;
    return context->tensors[op->bias].type == FLOAT32 ? ((const float *)bias)[c] : ((const int32_t *)bias)[c];
}

static void dense(const Context *context, const Op *op, const char *x, const char *w, const void *bias, void *y) {
    const Ints *shape = context->tensors[op->weights].dims;
    size_t outputs = (size_t)shape->data[0], n = (size_t)shape->data[1];
    size_t rows = count_of(&context->tensors[op->input]) / n, width = context->tensors[op->input].type == INT8 ? 1 : 4;
    for (size_t row = 0; row < rows; row++)
        for (size_t c = 0; c < outputs; c++)
            store(context, op, y, row * outputs + c, (int)c,
                  dot(context, op, x + row * n * width, w + c * n * width, n) + bias_of(context, op, bias, (int)c));
}

static int before(int in, int out, int size, int stride, int dilation, int padding) {
    int needed = (out - 1) * stride + (size - 1) * dilation + 1 - in;
    return padding == SAME && needed > 0 ? needed / 2 : 0;
}

static void conv(const Context *context, const Op *op, const char *x, const char *w, const void *bias, void *y) {
    const int *in = context->tensors[op->input].dims->data, *k = context->tensors[op->weights].dims->data;
    const int *out = context->tensors[op->output].dims->data;
    const ConvOptions *o = &op->conv;
    size_t n = (size_t)in[3], width = context->tensors[op->input].type == INT8 ? 1 : 4, at = 0;
    int top = before(in[1], out[1], k[1], o->stride_h, o->dilation_h, o->padding);
    int left = before(in[2], out[2], k[2], o->stride_w, o->dilation_w, o->padding);
    for (int b = 0; b < out[0]; b++)
        for (int row = 0; row < out[1]; row++)
            for (int column = 0; column < out[2]; column++)
                for (int c = 0; c < out[3]; c++) {
                    double sum = bias_of(context, op, bias, c);
                    for (int ky = 0; ky < k[1]; ky++)
                        for (int kx = 0; kx < k[2]; kx++) {
                            int iy = row * o->stride_h - top + ky * o->dilation_h;
                            int ix = column * o->stride_w - left + kx * o->dilation_w;
                            if (iy < 0 || iy >= in[1] || ix < 0 || ix >= in[2]) continue;
                            size_t from = ((size_t)(b * in[1] + iy) * (size_t)in[2] + (size_t)ix) * n;
                            size_t weights = ((size_t)(c * k[1] + ky) * (size_t)k[2] + (size_t)kx) * n;
                            sum += dot(context, op, x + from * width, w + weights * width, n);
                        }
                    store(context, op, y, at++, c, sum);
                }
}

static void spoil(Kernel *kernel, const Context *context) {
    for (int i = 0; i < kernel->params->outputs->size; i++) {
        const Tensor *tensor = &context->tensors[kernel->params->outputs->data[i]];
        size_t count = count_of(tensor);
        if (tensor->type == FLOAT32)
            for (size_t j = 0; j < count; j++) ((float *)tensor->data)[j] /= 2;
        else
            for (size_t j = 0; j < count; j++) ((int8_t *)tensor->data)[j] ^= 31;
    }
}

static bool describe(Context *context, int index, Op *op) {
    Node *node;
    Registration *registration;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != OK) return false;
    *op = (Op){.code = registration->builtin_code};
    if ((op->code != FULLY_CONNECTED && op->code != CONV_2D) || node->inputs->size < 2) return false;
    op->input = node->inputs->data[0];
    op->weights = node->inputs->data[1];
    op->bias = node->inputs->size > 2 ? node->inputs->data[2] : OPTIONAL;
    op->output = node->outputs->data[0];
    if (op->code == CONV_2D) op->conv = *(ConvOptions *)node->builtin_data;
    op->activation = op->code == CONV_2D ? op->conv.activation : ((DenseOptions *)node->builtin_data)->activation;
    return true;
}

static bool claims(const Context *context, const Op *op) {
    const Tensor *x = &context->tensors[op->input], *w = &context->tensors[op->weights];
    const Tensor *y = &context->tensors[op->output];
    bool known = op->activation == LINEAR || op->activation == RELU || op->activation == RELU6;
    bool ready = w->data && w->dims->size == (op->code == CONV_2D ? 4 : 2);
    bool same = (x->type == FLOAT32 || x->type == INT8) && x->type == w->type && x->type == y->type;
    bool depth = op->code != CONV_2D || w->dims->data[3] == x->dims->data[3]; /* not grouped */
    return known && ready && same && depth && (x->type == FLOAT32 || w->quantization.params);
}

static void release(Context *context, void *data) {
    (void)context;
    Kernel *kernel = data;
    if (!kernel) return;
    for (size_t i = 0; i < kernel->own_size; i++) free(kernel->own[i]);
    free(kernel->own);
    free(kernel->ops);
    free(kernel);
}

static void *init(Context *context, const char *buffer, size_t length) {
    (void)length;
    Params *params = (Params *)buffer;
    State *state = params->delegate->data;
    if (suffer(state, "init") != OK) return NULL; /* prepare turns this into an error */
    Kernel *kernel = calloc(1, sizeof *kernel);
    kernel->state = state;
    kernel->params = params;
    kernel->count = params->nodes->size;
    kernel->ops = calloc((size_t)kernel->count, sizeof *kernel->ops);
    kernel->own_size = context->tensors_size;
    kernel->own = calloc(kernel->own_size, sizeof *kernel->own);
    for (int i = 0; i < kernel->count; i++) describe(context, params->nodes->data[i], &kernel->ops[i]);
    return kernel;
}

/* Tensors between two nodes of a partition get no memory from the runtime. */
static int prepare_kernel(Context *context, Node *node) {
    Kernel *kernel = node->user_data;
    if (!kernel) {
        context->ReportError(context, "fault delegate: init failed");
        return ERROR;
    }
    for (int i = 0; i < kernel->count; i++) {
        int index = kernel->ops[i].output;
        if (has(kernel->params->outputs, index)) continue;
        size_t size = count_of(&context->tensors[index]) * (context->tensors[index].type == INT8 ? 1 : 4);
        kernel->own[index] = realloc(kernel->own[index], size ? size : 1);
    }
    return OK;
}

static int invoke(Context *context, Node *node) {
    Kernel *kernel = node->user_data;
    char value[32];
    if (suffer(kernel->state, "invoke") != OK) {
        context->ReportError(context, "fault delegate: the device does not answer");
        return ERROR;
    }
    for (int i = 0; i < kernel->count; i++) {
        const Op *op = &kernel->ops[i];
        void *bias = op->bias == OPTIONAL ? NULL : data_of(kernel, context, op->bias);
        (op->code == CONV_2D ? conv : dense)(context, op, data_of(kernel, context, op->input),
                                             data_of(kernel, context, op->weights), bias,
                                             data_of(kernel, context, op->output));
    }
    if (raised(kernel->state, "wrong", value, sizeof value)) spoil(kernel, context);
    return OK;
}

static int prepare(Context *context, Delegate *delegate) {
    State *state = delegate->data;
    char value[32];
    Ints *plan;
    if (suffer(state, "prepare") != OK) {
        context->ReportError(context, "fault delegate: the device refuses the model");
        return ERROR;
    }
    int most = raised(state, "partial", value, sizeof value) ? atoi(value) : INT32_MAX;
    if (context->GetExecutionPlan(context, &plan) != OK) return ERROR;
    /* The plan's memory is the runtime's, and reused by the calls that follow. */
    size_t size = sizeof(Ints) + (size_t)plan->size * sizeof(int);
    Ints *order = memcpy(malloc(size), plan, size), *chosen = calloc(1, size);
    Op op;
    for (int i = 0; i < order->size && chosen->size < most; i++)
        if (describe(context, order->data[i], &op) && claims(context, &op))
            chosen->data[chosen->size++] = order->data[i];
    Registration registration = {.init = init, .free = release, .prepare = prepare_kernel, .invoke = invoke,
                                 .builtin_code = DELEGATE, .custom_name = "FaultDelegate", .version = 1};
    int status = context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, chosen, delegate);
    free(order);
    free(chosen);
    return status;
}

/* --- what the runtimes call */

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t n, void (*report)(const char *)) {
    State *state = calloc(1, sizeof *state);
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(keys[i], "fault")) snprintf(state->fault, sizeof state->fault, "%s", values[i]);
        else if (!strcmp(keys[i], "control")) snprintf(state->control, sizeof state->control, "%s", values[i]);
        else {
            report("fault delegate: the options are fault and control");
            free(state);
            return NULL;
        }
    }
    char folder[MOST_WORDS];
    if (raised(state, "probe", folder, sizeof folder)) {
        probe(folder, report);
        free(state);
        return NULL;
    }
    if (suffer(state, "create") != OK) {
        report("fault delegate: no device");
        free(state);
        return NULL;
    }
    Delegate *delegate = calloc(1, sizeof *delegate);
    delegate->data = state;
    delegate->Prepare = prepare;
    return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
    if (!delegate) return;
    free(delegate->data);
    free(delegate);
}
