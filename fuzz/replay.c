/* Runs a fuzz target over the files of its corpus: how `./dev test` replays what fuzzing has found.
 * With --generate N it also feeds N mutations of each file, from a fixed seed. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state = 0x9e3779b97f4a7c15U;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void mutate(uint8_t *data, size_t size)
{
    for (uint64_t n = next_random() % 8; size && n; n--) {
        size_t at = next_random() % size;
        switch (next_random() % 4) {
        case 0:
            data[at] = (uint8_t)next_random();
            break;
        case 1:
            data[at] ^= (uint8_t)(1U << next_random() % 8);
            break;
        case 2:
            data[at] = (uint8_t) "\r\n \0(){}\"\\*"[next_random() % 11];
            break;
        default:
            memmove(data + at, data + size / 2, size - (at > size / 2 ? at : size / 2));
            break;
        }
    }
}

int main(int argc, char **argv)
{
    unsigned long generate = 0, runs = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--generate") == 0 && i + 1 < argc) {
            generate = strtoul(argv[++i], NULL, 10);
            continue;
        }
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            FILE *file = e->d_name[0] == '.' ? NULL : fopen(path, "rb");
            if (!file)
                continue;
            static uint8_t original[1 << 20];
            size_t size = fread(original, 1, sizeof original, file);
            fclose(file);
            for (unsigned long n = 0; n <= generate; n++, runs++) {
                uint8_t *copy = malloc(size ? size : 1); /* exact size: ASan sees an overrun */
                memcpy(copy, original, size);
                if (n)
                    mutate(copy, size);
                LLVMFuzzerTestOneInput(copy, size);
                free(copy);
            }
        }
        closedir(dir);
    }
    printf("%lu inputs\n", runs);
    return runs ? 0 : 1;
}
