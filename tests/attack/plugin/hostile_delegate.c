/* A delegate that is an intruder: whoever loads it runs attacker_executor.attack in its own process.
 *
 * Options: `attempt` is the name of an attempt, `target` the folder that it is told of, both in hexadecimal.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

int PyGILState_Ensure(void);
void PyGILState_Release(int);
int PyRun_SimpleString(const char *);

void *tflite_plugin_create_delegate(char **keys, char **values, size_t n, void (*report)(const char *)) {
    const char *attempt = "", *target = "";
    char program[4096];
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(keys[i], "attempt")) attempt = values[i];
        if (!strcmp(keys[i], "target")) target = values[i];
    }
    snprintf(program, sizeof program,
             "import attacker_executor; attacker_executor.attack(bytes.fromhex('%s'), bytes.fromhex('%s'))", attempt,
             target);
    int state = PyGILState_Ensure();
    PyRun_SimpleString(program);
    PyGILState_Release(state);
    report("the intruder is done");
    return NULL;
}

void tflite_plugin_destroy_delegate(void *delegate) { (void)delegate; }
