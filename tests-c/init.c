/* The first program of an emulated machine (scripts/bochs): runs the commands in the file /commands, one a line, words apart by
 * spaces, with their output on the serial line, says at the end how many failed, and switches the machine off. Linked statically. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 15 };

static int run(char *line) {
    char *words[WORDS + 1];
    int count = 0, status = 0;
    for (char *word = strtok(line, " \n"); word && count < WORDS; word = strtok(NULL, " \n")) words[count++] = word;
    words[count] = NULL;
    if (count == 0) return 0;
    pid_t child = fork();
    if (child == 0) {
        execv(words[0], words);
        perror(words[0]);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) return 1;
    if (status != 0) dprintf(1, "%s ended with status %#x\n", words[0], (unsigned)status);
    return status != 0;
}

int main(void) {
    int failures = 0;
    char line[256];
    if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) != 0) return 1;
    int serial = open("/dev/ttyS0", O_WRONLY | O_NOCTTY);
    if (serial < 0 || dup2(serial, 1) < 0 || dup2(serial, 2) < 0) return 1;
    FILE *commands = fopen("/commands", "r");
    while (commands && fgets(line, sizeof line, commands)) failures += run(line);
    dprintf(1, "end, %d failed\n", commands ? failures : 1);
    sleep(1);
    /* Bochs ends when this is written to this port. */
    if (iopl(3) == 0) {
        for (const char *letter = "Shutdown"; *letter; letter++) outb((unsigned char)*letter, 0x8900);
    }
    for (;;) pause();
}
